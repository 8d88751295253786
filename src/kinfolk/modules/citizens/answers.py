from msgspec import Struct


class MonthPresents(Struct):
    citizen_id: int
    presents: int


class TownPercentiles(Struct):
    town: str
    p50: float
    p75: float
    p99: float


def age_percentiles(h):
    return []


def presents_by_month(m, t):
    return {}
