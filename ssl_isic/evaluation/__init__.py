"""What features are worth: baselines and evaluators."""
