"""Citizens through the front door."""

import httpx
from tests.modules.citizens.registers import a_citizen


async def test_a_register_comes_back_as_it_was_sent(client: httpx.AsyncClient):
    sent = [a_citizen(1, relatives=[2]), a_citizen(2, relatives=[1])]
    added = await client.post("/imports", json={"citizens": sent})
    assert added.status_code == 201
    import_id = added.json()["data"]["import_id"]
    assert added.headers["location"] == f"/imports/{import_id}/citizens"
    listed = await client.get(f"/imports/{import_id}/citizens")
    assert listed.status_code == 200
    assert listed.json() == {"data": sent}


async def test_service(service_url: str):
    assert httpx.get(service_url + "/ready").json()["status"] == "ready"
