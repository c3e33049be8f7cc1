"""How good an encoder is: tasks, models, scores with intervals, and the store of results."""
