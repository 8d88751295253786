"""Which messages were seen before, and which were begun; both for a week."""

from kinfolk.kit import inbox
from kinfolk.kit.db import Database


async def test_old_ids_are_forgotten(db: Database) -> None:
    async with db.transaction() as conn:
        assert await inbox.new_among(conn, "forgetful", ["b", "a", "b"]) == {"a", "b"}
        assert await inbox.new_among(conn, "forgetful", ["a", "c"]) == {"c"}
        assert await inbox.new_among(conn, "another", ["a"]) == {"a"}
        await conn.execute("UPDATE inbox SET seen_at = now() - interval '8 days' WHERE message_id = 'a'")
        assert [await inbox.note_beginning(conn, "forgetful", words) for words in "aab"] == [0, 1, 0]
        await conn.execute("UPDATE beginnings SET begun_at = now() - interval '8 days' WHERE fingerprint = 'a'")
    async with db.transaction() as conn:
        assert await inbox.forget_old(conn) == 2
        assert await inbox.new_among(conn, "forgetful", ["a", "b", "c"]) == {"a"}
        assert [await inbox.note_beginning(conn, "forgetful", words) for words in "ab"] == [0, 1]
        await inbox.forget_beginning(conn, "forgetful", "b")
        assert await inbox.note_beginning(conn, "forgetful", "b") == 0
