"""The refused records of all accounts are one quarantine, though each account's are looked up by themselves."""

from callhouse.model.record import Record


async def filled(store):
    """The ids of three accounts, and of each entry in order whose it is: they came in turns, some in a row."""
    accounts = [
        (await store.accounts.create(email=f"{n}@x", login=None, plan="standard", timezone="UTC", parent_id=None))[0]
        for n in range(3)
    ]
    whose = [accounts[n] for n in (0, 1, 0, 0, 0, 0, 2, 1, 1, 0, 2, 2)]
    for n, account in enumerate(whose):
        await store.load([Record(account=account, source="calls", raw=b"%d" % n, read=f"reason {n % 5}")])
    return [account.id for account in accounts], [account.id for account in whose]


def test_entries_of_all_accounts_are_listed_in_the_order_of_their_ids_page_by_page(stored):
    async def work(store):
        _, whose = await filled(store)
        assert await store.quarantine.list(limit=0) == []
        for limit in (1, 2, 3, 5, 12, 100):
            listed, after = [], 0
            while page := await store.quarantine.list(after=after, limit=limit):
                assert len(page) <= limit
                listed += page
                after = page[-1].id
            assert [(entry.id, entry.account_id) for entry in listed] == list(enumerate(whose, 1))
            assert [await store.quarantine.record(entry) for entry in listed] == [b"%d" % n for n in range(12)]

    stored(work)


def test_an_entry_is_found_by_its_id_alone_and_shown_to_its_account_only(stored):
    async def work(store):
        accounts, whose = await filled(store)
        for entry_id, owner in enumerate(whose, 1):
            found = await store.quarantine.get(entry_id)
            assert (found.id, found.account_id) == (entry_id, owner)
            for account_id in accounts:
                assert await store.quarantine.of(account_id, entry_id) == (found if account_id == owner else None)
        assert await store.quarantine.get(13) is None

    stored(work)


def test_counts_and_reasons_are_those_of_one_account_or_of_all(stored):
    async def work(store):
        accounts, _ = await filled(store)
        assert [await store.quarantine.count(each) for each in (None, *accounts)] == [12, 6, 3, 3]
        assert await store.quarantine.reasons(limit=3) == [("reason 0", 3), ("reason 1", 3), ("reason 2", 2)]
        assert await store.quarantine.reasons(accounts[2], limit=3) == [("reason 1", 2), ("reason 0", 1)]

    stored(work)


def test_entries_of_several_accounts_are_dropped_together(stored):
    async def work(store):
        accounts, _ = await filled(store)
        first = await store.quarantine.list(limit=4)
        assert await store.quarantine.drop(first) == 4
        assert await store.quarantine.drop(first) == 0
        assert await store.quarantine.drop_all(accounts[2]) == 3
        assert [entry.id for entry in await store.quarantine.list()] == [5, 6, 8, 9, 10]
        assert await store.quarantine.drop_all(None) == 5
        assert await store.quarantine.list() == []

    stored(work)
