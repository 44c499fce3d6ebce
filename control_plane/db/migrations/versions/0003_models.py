"""Language models: what runs of tiny_lm register, and the text that they write on the way.

A run has an adapter or a model, never both; a preview is a clip or a text, exactly one of them.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

SCHEMA = """
CREATE TABLE models (
    model_id      text PRIMARY KEY,
    name          text NOT NULL,
    version       integer NOT NULL,
    run_id        text NOT NULL UNIQUE REFERENCES runs,
    experiment_id text NOT NULL REFERENCES experiments,
    final_loss    float8 NOT NULL,
    best_loss     float8 NOT NULL,
    files         jsonb NOT NULL,                     -- [{path, digest, size_bytes}]
    training_config jsonb NOT NULL,                   -- TrainingConfig as proto JSON
    report        jsonb NOT NULL,                     -- TrainingReport as proto JSON
    report_markdown text NOT NULL,
    labels        jsonb NOT NULL DEFAULT '{}',
    revision      integer NOT NULL DEFAULT 1,
    create_time   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, version)
);

ALTER TABLE runs
    ADD COLUMN model_id text REFERENCES models DEFERRABLE INITIALLY DEFERRED,
    ADD CHECK (num_nonnulls(adapter_id, model_id) <= 1);

ALTER TABLE previews
    ALTER COLUMN file DROP NOT NULL,
    ADD COLUMN text text,                             -- what a language model wrote, with the prompt; null: a clip
    ADD CHECK (num_nonnulls(file, text) = 1);
"""


def upgrade() -> None:
    """Add them; alembic runs it in one transaction."""
    op.get_bind().exec_driver_sql(SCHEMA)
