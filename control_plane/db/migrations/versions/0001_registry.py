"""The registry, the queue and telemetry.

Every table that a job writes to carries the attempt that wrote it, and jobs carry lease and cursor: fencing is part of
the schema from the first migration on. Digests are 64 hexadecimal digits, ids a prefix and a ULID, so that ordering by
id is ordering by time. Builds of the embedded server have neither ICU nor lz4: no COLLATE, no COMPRESSION.
"""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TABLE experiments (
    experiment_id text PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    description   text NOT NULL DEFAULT '',
    dataset_id    text,
    default_spec  jsonb,                              -- JobSpec as proto JSON; null: none
    labels        jsonb NOT NULL DEFAULT '{}',
    revision      integer NOT NULL DEFAULT 1,         -- the etag
    create_time   timestamptz NOT NULL DEFAULT now(),
    update_time   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE datasets (
    dataset_id    text PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    description   text NOT NULL DEFAULT '',
    last_version  integer NOT NULL DEFAULT 0,         -- highest number that a version ever had
    create_time   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE experiments ADD FOREIGN KEY (dataset_id) REFERENCES datasets;

-- Samples are never changed: what a version has frozen stays true.
CREATE TABLE samples (
    sample_id      text PRIMARY KEY,
    dataset_id     text NOT NULL REFERENCES datasets,
    prompt         text NOT NULL,
    audio_digest   text NOT NULL,
    rating         float8 NOT NULL CHECK (rating BETWEEN 1 AND 5),
    tags           jsonb NOT NULL DEFAULT '{}',
    duration_s     float8 NOT NULL,
    sample_rate_hz integer NOT NULL,
    channels       smallint NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX samples_identity ON samples (dataset_id, audio_digest, md5(prompt));
CREATE INDEX samples_by_dataset ON samples (dataset_id, sample_id);

CREATE TABLE dataset_versions (
    dataset_version_id text PRIMARY KEY,
    dataset_id    text NOT NULL REFERENCES datasets,
    number        integer NOT NULL,
    min_rating    float8,                             -- null: every rating
    sample_count  bigint NOT NULL,
    digest        text NOT NULL,                      -- of the JSONL blob
    size_bytes    bigint NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (dataset_id, number)
);
CREATE TABLE dataset_version_samples (
    dataset_version_id text NOT NULL REFERENCES dataset_versions ON DELETE CASCADE,
    ordinal       bigint NOT NULL,                    -- line of the JSONL, from 1
    sample_id     text NOT NULL REFERENCES samples,
    PRIMARY KEY (dataset_version_id, ordinal),
    UNIQUE (dataset_version_id, sample_id)
);

CREATE TABLE nodes (
    node_id       text PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    address       text NOT NULL,
    kinds         text[] NOT NULL,
    slots         integer NOT NULL CHECK (slots > 0),
    device        text NOT NULL DEFAULT '',
    version       text NOT NULL DEFAULT '',
    last_seen_time timestamptz NOT NULL DEFAULT now(),
    create_time   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE runs (
    run_id        text PRIMARY KEY,
    experiment_id text NOT NULL REFERENCES experiments,
    display_name  text NOT NULL DEFAULT '',
    dataset_version_id text REFERENCES dataset_versions,   -- no ON DELETE: a version in use stays
    kind          text NOT NULL,                      -- which JobSpec, such as supervised
    spec          jsonb NOT NULL,                     -- resolved JobSpec as proto JSON
    state         text NOT NULL CHECK (state IN ('queued', 'starting', 'running', 'stopping', 'paused',
                                                 'succeeded', 'failed', 'cancelled')),
    state_reason  text NOT NULL DEFAULT '',
    attempt       integer NOT NULL DEFAULT 0,         -- the current one: the fence of every write below
    lost_attempts integer NOT NULL DEFAULT 0,         -- attempts ended by a lost node
    priority      integer NOT NULL DEFAULT 0,
    step          bigint NOT NULL DEFAULT 0,
    total_steps   bigint NOT NULL DEFAULT 0,
    total_epochs  integer NOT NULL DEFAULT 0,
    adapter_id    text,
    final_loss    float8,
    failure       jsonb,                              -- RunFailure as proto JSON
    resumed_from_run_id text REFERENCES runs,
    resumed_from_step   bigint NOT NULL DEFAULT 0,
    labels        jsonb NOT NULL DEFAULT '{}',
    revision      integer NOT NULL DEFAULT 1,
    create_time   timestamptz NOT NULL DEFAULT now(),
    start_time    timestamptz,
    end_time      timestamptz,
    live          boolean GENERATED ALWAYS AS (state NOT IN ('succeeded', 'failed', 'cancelled')) STORED,
    UNIQUE (run_id, live),
    CHECK ((state = 'succeeded') = (final_loss IS NOT NULL)),
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK (live = (end_time IS NULL))
);
CREATE INDEX runs_queue ON runs (priority DESC, run_id) WHERE state = 'queued';
CREATE INDEX runs_by_experiment ON runs (experiment_id, run_id);
CREATE INDEX runs_by_version ON runs (dataset_version_id);

-- One row a change of state, written in the transaction that changes it.
CREATE TABLE run_events (
    run_id        text NOT NULL REFERENCES runs,
    revision      integer NOT NULL,
    time          timestamptz NOT NULL DEFAULT now(),
    actor         text NOT NULL,
    from_state    text,
    to_state      text NOT NULL,
    attempt       integer NOT NULL DEFAULT 0,
    reason        text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, revision)
);

CREATE TABLE attempts (
    run_id        text NOT NULL REFERENCES runs,
    attempt       integer NOT NULL CHECK (attempt > 0),
    state         text NOT NULL CHECK (state IN ('leased', 'preparing', 'training', 'unreachable', 'ended')),
    end_reason    text CHECK ((state = 'ended') = (end_reason IS NOT NULL)),
    resume_run_id text,                               -- checkpoint it goes on from; null: a fresh start
    resume_attempt integer,
    resume_step   bigint,
    create_time   timestamptz NOT NULL DEFAULT now(),
    end_time      timestamptz,
    PRIMARY KEY (run_id, attempt)
);

CREATE TABLE jobs (
    job_id        text PRIMARY KEY,
    run_id        text NOT NULL,
    attempt       integer NOT NULL,
    rank          integer NOT NULL DEFAULT 0,
    node_id       text NOT NULL REFERENCES nodes,
    started       boolean NOT NULL DEFAULT false,     -- the node has acknowledged StartJob
    last_seq      bigint NOT NULL DEFAULT 0,          -- cursor: events up to here are stored
    lease_until   timestamptz NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    end_time      timestamptz,
    leased        boolean GENERATED ALWAYS AS (CASE WHEN end_time IS NULL THEN true END) STORED,
    UNIQUE (run_id, attempt, rank),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts,
    -- a run that has ended has no live lease
    FOREIGN KEY (run_id, leased) REFERENCES runs (run_id, live) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX jobs_live ON jobs (lease_until) WHERE end_time IS NULL;
CREATE INDEX jobs_of_node ON jobs (node_id) WHERE end_time IS NULL;

CREATE TABLE checkpoints (
    run_id        text NOT NULL,
    attempt       integer NOT NULL,
    step          bigint NOT NULL,
    epoch         float8 NOT NULL,
    eval_loss     float8,
    best          boolean NOT NULL,
    files         jsonb NOT NULL,                     -- [{path, digest, size_bytes}]
    create_time   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt, step),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts
);
-- what an attempt goes on from stays
ALTER TABLE attempts ADD FOREIGN KEY (resume_run_id, resume_attempt, resume_step) REFERENCES checkpoints MATCH FULL;

CREATE TABLE previews (
    run_id        text NOT NULL,
    attempt       integer NOT NULL,
    step          bigint NOT NULL,
    prompt_index  integer NOT NULL,
    prompt        text NOT NULL,
    seed          bigint NOT NULL,
    duration_s    float8 NOT NULL,
    file          jsonb NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt, step, prompt_index),
    FOREIGN KEY (run_id, attempt) REFERENCES attempts
);

CREATE TABLE adapters (
    adapter_id    text PRIMARY KEY,
    name          text NOT NULL,
    version       integer NOT NULL,
    run_id        text NOT NULL UNIQUE REFERENCES runs,
    experiment_id text NOT NULL REFERENCES experiments,
    dataset_version_id text REFERENCES dataset_versions,
    base_model    text NOT NULL,
    final_loss    float8 NOT NULL,
    files         jsonb NOT NULL,
    training_config jsonb NOT NULL,                   -- TrainingConfig as proto JSON
    report        jsonb NOT NULL,                     -- TrainingReport as proto JSON
    report_markdown text NOT NULL,
    labels        jsonb NOT NULL DEFAULT '{}',
    revision      integer NOT NULL DEFAULT 1,
    create_time   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, version)
);
CREATE INDEX adapters_by_version ON adapters (dataset_version_id);
ALTER TABLE runs ADD FOREIGN KEY (adapter_id) REFERENCES adapters DEFERRABLE INITIALLY DEFERRED;

-- Answers of Create and Resume calls, kept 24 h, written in the transaction of their effect.
CREATE TABLE requests (
    method        text NOT NULL,
    request_id    text NOT NULL,
    body_digest   text NOT NULL,
    response      bytea NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (method, request_id)
);
CREATE INDEX requests_by_age ON requests (create_time);

-- Telemetry. A set is the list of names that the rows of a batch share; a row is a step of a set. A step that a later
-- attempt repeats replaces the row. (attempt, seq) is where a row came from: watches read in that order.
CREATE TABLE metric_sets (
    run_id        text NOT NULL REFERENCES runs,
    set_id        integer NOT NULL,
    names         text[] NOT NULL,
    digest        text NOT NULL,                      -- of the names: an index over themselves overflows with many
    PRIMARY KEY (run_id, set_id),
    UNIQUE (run_id, digest)
);
CREATE TABLE metric_steps (
    run_id        text NOT NULL,
    set_id        integer NOT NULL,
    step          bigint NOT NULL,
    attempt       integer NOT NULL,
    seq           bigint NOT NULL,
    time_us       bigint NOT NULL,
    vals          float8[] NOT NULL,                  -- null: superseded at this step by a row of another set
    PRIMARY KEY (run_id, set_id, step)
);
CREATE INDEX metric_steps_by_arrival ON metric_steps (run_id, attempt, seq);

-- Finite extremes of 256 steps of one metric, recomputed in the transaction that writes the steps.
CREATE TABLE metric_rollups (
    run_id        text NOT NULL,
    set_id        integer NOT NULL,
    position      integer NOT NULL,                   -- index into the set's names, from 1
    bucket        bigint NOT NULL,                    -- step / 256
    points        integer NOT NULL,
    min_value     float8, min_step bigint,            -- null: no finite value in the bucket
    max_value     float8, max_step bigint,
    non_finite_points integer NOT NULL,
    non_finite_step   bigint,                         -- the first of them
    PRIMARY KEY (run_id, set_id, position, bucket)
);

CREATE TABLE log_lines (
    run_id        text NOT NULL,
    attempt       integer NOT NULL,
    rank          integer NOT NULL,
    seq           bigint NOT NULL,                    -- the event that carried it
    line          integer NOT NULL,                   -- index in that event, from 0
    time_us       bigint NOT NULL,
    stream        smallint NOT NULL,                  -- LogStream
    text          text NOT NULL,
    PRIMARY KEY (run_id, attempt, rank, seq, line)
);

-- What could not be stored is counted here and logged; it stops neither the training nor the stream.
CREATE TABLE telemetry_losses (
    run_id        text NOT NULL REFERENCES runs,
    attempt       integer NOT NULL,
    rank          integer NOT NULL,
    seq           bigint NOT NULL,                    -- the event that carried it
    lost          bigint NOT NULL,                    -- values, lines or records
    reason        text NOT NULL,
    PRIMARY KEY (run_id, attempt, rank, seq)
);
"""


def upgrade() -> None:
    """Create everything; alembic runs it in one transaction."""
    op.get_bind().exec_driver_sql(SCHEMA)
