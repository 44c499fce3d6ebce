"""What a training is fed: sound files, data set files, and the checks that both must pass. No torch."""
