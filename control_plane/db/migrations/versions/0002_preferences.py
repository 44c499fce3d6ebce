"""Training from preferences: comparisons, versions that were derived, adapters that others were trained from.

A clip of a comparison is a row, so that a digest finds what was measured on it. What an adapter or a run starts from
stays: both name it by a foreign key. That of a run is read out of its spec, so the two cannot differ.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = """
-- Comparisons are never changed, as samples are not: what a version was derived from stays true.
CREATE TABLE comparisons (
    comparison_id text PRIMARY KEY,
    dataset_id    text NOT NULL REFERENCES datasets,
    prompt        text NOT NULL,
    digest        text NOT NULL,                      -- of prompt and order: the same one is there once
    create_time   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (dataset_id, digest)
);
CREATE INDEX comparisons_by_dataset ON comparisons (dataset_id, comparison_id);

CREATE TABLE comparison_clips (
    comparison_id text NOT NULL REFERENCES comparisons ON DELETE CASCADE,
    ordinal       smallint NOT NULL,                  -- best first, from 1
    audio_digest  text NOT NULL,
    rank          smallint NOT NULL CHECK (rank BETWEEN 1 AND ordinal),
    duration_s    float8 NOT NULL,
    PRIMARY KEY (comparison_id, ordinal),
    UNIQUE (comparison_id, audio_digest)
);
CREATE INDEX comparison_clips_by_audio ON comparison_clips (audio_digest);

ALTER TABLE dataset_versions
    ADD COLUMN derivation jsonb,                      -- Derivation as proto JSON; null: rated clips
    ADD CHECK (derivation IS NULL OR min_rating IS NULL);

ALTER TABLE runs
    ADD COLUMN start_adapter_id text REFERENCES adapters
        GENERATED ALWAYS AS (spec -> kind -> 'adapter' ->> 'start_adapter_id') STORED;

ALTER TABLE adapters ADD COLUMN start_adapter_id text REFERENCES adapters;
CREATE INDEX adapters_by_start ON adapters (start_adapter_id, adapter_id) WHERE start_adapter_id IS NOT NULL;
"""


def upgrade() -> None:
    """Add them; alembic runs it in one transaction."""
    op.get_bind().exec_driver_sql(SCHEMA)
