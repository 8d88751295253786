"""The domains, one folder each; they never import one another."""
