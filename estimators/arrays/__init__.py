"""Mathematics and checks that the metrics share."""
