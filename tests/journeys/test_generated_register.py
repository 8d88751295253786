"""An invented register of ten thousand citizens goes in by the command line, and every answer comes out over HTTP."""

import json
from pathlib import Path

import httpx
from tests.running import kinfolk


def test_ten_thousand_invented_citizens(service_url: str, tmp_path: Path) -> None:
    written = kinfolk("generate", "10000", "--seed", "7")
    assert written.returncode == 0, written.stderr
    sent = {citizen["citizen_id"]: citizen for citizen in json.loads(written.stdout)["citizens"]}
    assert len(sent) == 10_000

    register = tmp_path / "register.json"
    register.write_text(written.stdout, encoding="utf-8")
    told = kinfolk("import", str(register), "--api-url", service_url)
    assert told.returncode == 0, told.stderr
    home = f"/api/v1/imports/{int(told.stdout.split()[-1])}"

    with httpx.Client(base_url=service_url, timeout=60, trust_env=False) as client:
        came = client.get(f"{home}/citizens").json()["data"]
        assert [citizen["citizen_id"] for citizen in came] == sorted(sent)
        assert came == [
            sent[citizen["citizen_id"]] | {"relatives": sorted(sent[citizen["citizen_id"]]["relatives"])}
            for citizen in came
        ]

        presents = client.get(f"{home}/citizens/birthdays").json()["data"]
        assert list(presents) == [str(month) for month in range(1, 13)]
        bought = sum(each["presents"] for buying in presents.values() for each in buying)
        assert bought == sum(len(citizen["relatives"]) for citizen in came) > 10_000

        ages = client.get(f"{home}/towns/stat/percentile/age").json()["data"]
        assert [town["town"] for town in ages] == sorted({citizen["town"] for citizen in came})
        assert all(0 <= town["p50"] <= town["p75"] <= town["p99"] < 130 for town in ages)

        first, last = came[0], came[-1]
        assert last["citizen_id"] not in first["relatives"]
        wanted = sorted([*first["relatives"], last["citizen_id"]])
        changed = client.patch(f"{home}/citizens/{first['citizen_id']}", json={"relatives": wanted, "name": "Новая"})
        assert changed.json()["data"] == first | {"relatives": wanted, "name": "Новая"}
        assert first["citizen_id"] in client.get(f"{home}/citizens").json()["data"][-1]["relatives"]
