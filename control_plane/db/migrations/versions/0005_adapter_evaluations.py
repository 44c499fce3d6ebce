"""What was measured of the clips of an adapter, beside those of what it is compared with.

A run that played them stays, as everything stays that something else names.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

SCHEMA = """
CREATE TABLE adapter_evaluations (
    evaluation_id text PRIMARY KEY,
    adapter_id    text NOT NULL REFERENCES adapters,
    scorer        text NOT NULL,
    wish          jsonb NOT NULL,                     -- what was wished for; {} where the scorer knows of no wishes
    before_run_id text REFERENCES runs,               -- null: no run of this control plane
    after_run_id  text REFERENCES runs,
    measures      jsonb NOT NULL,                     -- [Measure as proto JSON]
    create_time   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX adapter_evaluations_by_adapter ON adapter_evaluations (adapter_id, evaluation_id);
"""


def upgrade() -> None:
    """Add it; alembic runs it in one transaction."""
    op.get_bind().exec_driver_sql(SCHEMA)
