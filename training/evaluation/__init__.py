"""How good an encoder is: tasks, contenders, scores with intervals, and the store of results."""
