"""What a team would write by itself: FastAPI and asyncpg over PostgreSQL, each list with its exact total.

Run by benchmarks/alternatives.py with uvicorn in an environment of its own; DATABASE names the database.
"""

import os
from contextlib import asynccontextmanager

import asyncpg
import orjson
from fastapi import FastAPI, HTTPException, Response

COLUMNS = "session_id, started, ended, direction, src, dest, event_count"
WINDOW = "account_id = $1 AND started >= $2 AND started < $3"
NUMBERS = {"dest": "dest_key = $4", "either": "(dest_key = $4 OR src_key = $4)"}


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["DATABASE"], min_size=4, max_size=16) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/calls")
async def calls(
    account: int, since: int, until: int, limit: int = 20, offset: int = 0, number: str = "", side: str = "dest"
):
    where, given = WINDOW, [account, since, until]
    if number:
        where, given = f"{WINDOW} AND {NUMBERS[side]}", [*given, number]
    last = len(given)
    page = f"ORDER BY started DESC, session_id DESC LIMIT ${last + 1} OFFSET ${last + 2}"
    async with app.state.pool.acquire() as connection:
        total = await connection.fetchval(f"SELECT count(*) FROM calls WHERE {where}", *given)
        rows = await connection.fetch(f"SELECT {COLUMNS} FROM calls WHERE {where} {page}", *given, limit, offset)
    return Response(orjson.dumps({"calls": [dict(row) for row in rows], "total": total}), media_type="application/json")


@app.get("/call")
async def call(account: int, session_id: str):
    sql = f"SELECT {COLUMNS} FROM calls WHERE account_id = $1 AND session_id = $2"
    row = await app.state.pool.fetchrow(sql, account, session_id)
    if row is None:
        raise HTTPException(404)
    return Response(orjson.dumps(dict(row)), media_type="application/json")


@app.get("/causes")
async def causes(account: int, since: int, until: int):
    sql = f"SELECT cause_code, count(*) FROM calls WHERE {WINDOW} GROUP BY cause_code ORDER BY cause_code"
    rows = await app.state.pool.fetch(sql, account, since, until)
    return Response(orjson.dumps([list(row) for row in rows]), media_type="application/json")
