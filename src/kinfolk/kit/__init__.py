"""The platform every module stands on; it knows no domain."""
