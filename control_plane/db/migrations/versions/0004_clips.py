"""Clips: what runs of generate play, several of one prompt, each told by its seed.

Such a run leaves its previews and nothing else: it succeeds without a loss, an adapter or a model. The adapter that
plays stays as one does that a training starts from, since it is the same column, which is read out of the spec.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

SCHEMA = """
ALTER TABLE previews
    DROP CONSTRAINT previews_pkey,
    ADD PRIMARY KEY (run_id, attempt, step, prompt_index, seed);

ALTER TABLE runs
    DROP CONSTRAINT runs_check,                       -- a loss with every success
    ADD CONSTRAINT runs_final_loss_check
        CHECK ((state = 'succeeded' AND kind <> 'generate') = (final_loss IS NOT NULL)),
    ADD CONSTRAINT runs_clips_check
        CHECK (kind <> 'generate' OR num_nonnulls(adapter_id, model_id) = 0),
    DROP COLUMN start_adapter_id;                     -- Postgres before 17 cannot change what a column is made of
ALTER TABLE runs
    ADD COLUMN start_adapter_id text REFERENCES adapters
        GENERATED ALWAYS AS (coalesce(spec -> kind -> 'adapter' ->> 'start_adapter_id',
                                      spec -> kind -> 'player' ->> 'adapter_id')) STORED;
"""


def upgrade() -> None:
    """Add them; alembic runs it in one transaction."""
    op.get_bind().exec_driver_sql(SCHEMA)
