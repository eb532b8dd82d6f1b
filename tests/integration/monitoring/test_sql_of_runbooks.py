"""What runbooks tell to ask PostgreSQL can be asked."""

from __future__ import annotations

import asyncpg
from tests.unit.monitoring import monitoring_files as files


async def test_every_question_to_the_database_is_one(database_url: str) -> None:
    pages = (*files.RUNBOOKS, *files.OPERATIONS)
    questions = [block for path in pages for block in files.blocks(path, "sql")]
    assert len(questions) >= 2
    connection = await asyncpg.connect(database_url)
    try:
        for question in questions:
            await connection.fetch(question)
    finally:
        await connection.close()
