"""Migrations: one at a time, all or nothing, never backwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from control_plane import reports
from control_plane.adapters import store as adapters
from control_plane.datasets import store as datasets
from control_plane.datasets.model import Form
from control_plane.db import migrate as module
from control_plane.db.migrate import migrate
from control_plane.db.pool import connect
from control_plane.errors import DatabaseTooNew, DatabaseTooOld, DatabaseUnreachable, DatabaseUnsuitable
from control_plane.runs import store as runs


def tables(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        return [row[0] for row in conn.execute(sql).fetchall()]


async def test_an_empty_database_gets_the_schema_and_a_second_time_changes_nothing(empty_dsn: str):
    migrate(empty_dsn)
    first = tables(empty_dsn)

    migrate(empty_dsn)

    assert {"runs", "run_events", "jobs", "requests", "alembic_version"} <= set(first)
    assert tables(empty_dsn) == first


async def test_control_planes_that_start_at_once_migrate_once(empty_dsn: str):
    await asyncio.gather(*(asyncio.to_thread(migrate, empty_dsn) for _ in range(4)))

    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


async def test_a_database_newer_than_the_program_is_refused_with_a_sentence(dsn: str):
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(
        DatabaseTooNew, match=r"is at revision 9999, which this program does not know .*; update tunesmith"
    ):
        migrate(dsn)


async def test_a_migration_that_fails_leaves_nothing(empty_dsn: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    copy = scripts(tmp_path, "0001_registry.py")
    (copy / "versions" / "0002_broken.py").write_text(
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (a int)')\n    op.execute('CREATE TABLE half (a int)')\n"
    )
    monkeypatch.setattr(module, "SCRIPTS", copy)

    with pytest.raises(Exception, match='relation "half" already exists'):
        migrate(empty_dsn)

    assert tables(empty_dsn) == []


async def test_what_is_stored_stays_as_it_was_when_the_schema_grows(
    empty_dsn: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before:
        before.setattr(module, "SCRIPTS", scripts(tmp_path, "0001_registry.py"))
        migrate(empty_dsn)
    with psycopg.connect(empty_dsn) as conn:
        conn.execute(FIRST_RELEASE)

    migrate(empty_dsn)

    async with connect(empty_dsn, pool_size=2) as db, db.connection() as conn:
        dataset = await datasets.get(conn, "dst_1")
        version = await datasets.get_version(conn, "dsv_1")
        run = await runs.get(conn, "run_1")
        adapter = await adapters.get(conn, "adp_1")
        [preview] = await runs.previews(conn, run_id="run_1", limit=10)
        report = await reports.of_run(conn, "run_1")
        [after] = await runs.previews(conn, run_id="run_1", after=preview.key.replace("/7/", "/6/"), limit=10)
    assert (dataset.sample_count, dataset.comparison_count) == (1, 0)
    assert (version.form, version.derivation, version.min_rating) == (Form.RATED_CLIPS, None, 4)
    assert (run.start_adapter_id, adapter.start_adapter_id, run.adapter_id) == (None, None, "adp_1")
    assert (run.model_id, preview.text, report.markdown) == (None, "", "# Report")
    assert preview.file is not None and preview.file.path == "0.wav"
    assert after == preview


async def test_what_a_run_starts_from_and_what_its_texts_are_outlive_the_change_to_clips(
    empty_dsn: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before:
        versions = ("0001_registry.py", "0002_preferences.py", "0003_models.py")
        before.setattr(module, "SCRIPTS", scripts(tmp_path, *versions))
        migrate(empty_dsn)
    with psycopg.connect(empty_dsn) as conn:
        conn.execute(FIRST_RELEASE)
        conn.execute(TWO_MODELS)
        conn.execute(GOES_ON_FROM_AN_ADAPTER)

    migrate(empty_dsn)

    async with connect(empty_dsn, pool_size=2) as db, db.connection() as conn:
        goes_on = await runs.get(conn, "run_4")
        made = await runs.get(conn, "run_2")
        clip = await runs.previews(conn, run_id="run_1", limit=10)
    assert (goes_on.start_adapter_id, goes_on.state, goes_on.final_loss) == ("adp_1", "queued", None)
    assert (made.start_adapter_id, made.final_loss) == (None, 4.5)
    assert [(each.prompt_index, each.seed) for each in clip] == [(0, 7)]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("UPDATE previews SET text = 'a text'", "previews_check"),
        ("UPDATE previews SET file = NULL", "previews_check"),
        ("UPDATE runs SET model_id = 'mdl_1' WHERE run_id = 'run_1'", "runs_check"),
        ("UPDATE models SET version = 1", "models_name_version_key"),
        ("UPDATE models SET run_id = 'run_2'", "models_run_id_key"),
        ("UPDATE runs SET final_loss = NULL WHERE run_id = 'run_1'", "runs_final_loss_check"),
        ("UPDATE runs SET final_loss = 1 WHERE run_id = 'run_5'", "runs_final_loss_check"),
        ("UPDATE runs SET adapter_id = 'adp_1' WHERE run_id = 'run_5'", "runs_clips_check"),
        ("UPDATE runs SET model_id = 'mdl_1' WHERE run_id = 'run_5'", "runs_clips_check"),
        ("INSERT INTO previews SELECT * FROM previews", "previews_pkey"),
        ("""UPDATE runs SET spec = '{"generate": {"player": {"adapter_id": "adp_2"}}}' WHERE run_id = 'run_5'""",
         "runs_start_adapter_id_fkey"),
    ],
)  # fmt: skip
async def test_the_schema_keeps_clip_from_text_and_adapter_model_and_clips_and_versions_apart(
    empty_dsn: str, change: str, rule: str
):
    migrate(empty_dsn)
    with psycopg.connect(empty_dsn) as conn:
        conn.execute(FIRST_RELEASE)
        conn.execute(TWO_MODELS)
        conn.execute(CLIPS)

    with psycopg.connect(empty_dsn) as conn, pytest.raises(psycopg.IntegrityError, match=rule):
        conn.execute(change.encode())


FIRST_RELEASE = b"""
    INSERT INTO datasets (dataset_id, name, last_version) VALUES ('dst_1', 'clips', 1);
    INSERT INTO samples (sample_id, dataset_id, prompt, audio_digest, rating, duration_s, sample_rate_hz, channels)
        VALUES ('smp_1', 'dst_1', 'a song', 'a', 5, 2.5, 32000, 1);
    INSERT INTO dataset_versions (dataset_version_id, dataset_id, number, min_rating, sample_count, digest, size_bytes)
        VALUES ('dsv_1', 'dst_1', 1, 4, 1, 'b', 10);
    INSERT INTO experiments (experiment_id, name, dataset_id) VALUES ('exp_1', 'trial', 'dst_1');
    INSERT INTO runs (run_id, experiment_id, dataset_version_id, kind, spec, state, adapter_id, final_loss, end_time)
        VALUES ('run_1', 'exp_1', 'dsv_1', 'supervised', '{"supervised": {"adapter": {"base_model": "tiny"}}}',
                'succeeded', 'adp_1', 1.5, now());
    INSERT INTO adapters (adapter_id, name, version, run_id, experiment_id, dataset_version_id, base_model, final_loss,
                          files, training_config, report, report_markdown)
        VALUES ('adp_1', 'trial', 1, 'run_1', 'exp_1', 'dsv_1', 'tiny', 1.5, '[]', '{}', '{}', '# Report');
    INSERT INTO attempts (run_id, attempt, state, end_reason) VALUES ('run_1', 1, 'ended', 'succeeded');
    INSERT INTO previews (run_id, attempt, step, prompt_index, prompt, seed, duration_s, file)
        VALUES ('run_1', 1, 10, 0, 'a song', 7, 2.5, '{"path": "0.wav"}');
"""
TWO_MODELS = b"""
    INSERT INTO runs (run_id, experiment_id, kind, spec, state, final_loss, end_time)
        SELECT run_id, 'exp_1', 'tiny_lm', '{"tiny_lm": {}}', 'succeeded', 4.5, now()
        FROM unnest(ARRAY['run_2', 'run_3']) AS run_id;
    INSERT INTO models (model_id, name, version, run_id, experiment_id, final_loss, best_loss, files, training_config,
                        report, report_markdown)
        VALUES ('mdl_1', 'trial', 1, 'run_2', 'exp_1', 4.5, 4.75, '[]', '{}', '{}', ''),
               ('mdl_2', 'trial', 2, 'run_3', 'exp_1', 4.5, 4.75, '[]', '{}', '{}', '');
"""


GOES_ON_FROM_AN_ADAPTER = b"""
    INSERT INTO runs (run_id, experiment_id, dataset_version_id, kind, spec, state)
        VALUES ('run_4', 'exp_1', 'dsv_1', 'supervised', '{"supervised": {"adapter": {"start_adapter_id": "adp_1"}}}',
                'queued');
"""
CLIPS = b"""
    INSERT INTO runs (run_id, experiment_id, kind, spec, state, end_time)
        VALUES ('run_5', 'exp_1', 'generate', '{"generate": {"player": {"adapter_id": "adp_1"}}}', 'succeeded', now());
    INSERT INTO attempts (run_id, attempt, state, end_reason) VALUES ('run_5', 1, 'ended', 'succeeded');
    INSERT INTO previews (run_id, attempt, step, prompt_index, prompt, seed, duration_s, file)
        SELECT 'run_5', 1, 0, 0, 'a song', seed, 2.5, '{"path": "0.wav"}' FROM generate_series(0, 3) AS seed;
"""


def scripts(folder: Path, *versions: str) -> Path:
    """A copy of the migrations that has these alone."""
    for name in ("env.py", *(f"versions/{version}" for version in versions)):
        copy = folder / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text((module.SCRIPTS / name).read_text())
    return folder


async def test_a_server_that_is_too_old_is_refused_with_a_sentence(dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OLDEST_SERVER", 99)

    with pytest.raises(DatabaseTooOld, match=r"the server is Postgres \d+\.\d+.*; tunesmith needs 99 or newer"):
        migrate(dsn)


def test_a_server_that_is_not_there_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(DatabaseUnreachable, match=r"the database cannot be used: .*; check the DSN"):
        migrate(f"host={tmp_path} dbname=postgres")
    with pytest.raises(DatabaseUnreachable, match=r"the DSN cannot be read: .*; it is a libpq connection string"):
        migrate("postgres:no-dsn")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("SET default_transaction_read_only = on", r"is read-only, .*; give the DSN of one that can be written"),
        ("SET role = pg_monitor", r"may not use the database: permission denied .*; give a role that owns"),
    ],
)
async def test_a_database_that_may_not_be_written_is_refused_with_a_sentence(empty_dsn: str, setting: str, said: str):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} {setting}".encode())

    with pytest.raises(DatabaseUnsuitable, match=said):
        migrate(empty_dsn)


async def test_a_database_of_another_encoding_is_refused_with_a_sentence(postgres: str):
    create = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(create.encode())
        try:
            with pytest.raises(DatabaseUnsuitable, match=r"encoding is LATIN1, .*; make one with CREATE DATABASE"):
                migrate(f"{postgres} dbname=latin")
        finally:
            conn.execute(b"DROP DATABASE latin")
