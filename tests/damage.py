"""Damaging the pages of a store's file, as a disk would."""

import apsw

from callhouse.store.sqlite import FILE_NAME


def leaves(data, name):
    """The pages of the table or index *name* that hold its rows."""
    db = apsw.Connection(str(data / FILE_NAME))
    found = db.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (name,)
    ).fetchall()
    db.close()
    return [page for (page,) in found]


def spoil(data, page, how=bytes):
    """Write over a page, numbered from 1; *how* makes the new content given its length."""
    file = data / FILE_NAME
    size = int.from_bytes(file.read_bytes()[16:18], "big")
    with file.open("r+b") as store:
        store.seek((page - 1) * size)
        store.write(how(size))
