"""Registry records as messages of the contract. Pure: nothing here reads, writes or waits."""
