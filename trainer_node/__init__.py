"""How to train: engines, checkpoints and the process that runs them. No gRPC, no Postgres."""
