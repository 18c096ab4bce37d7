"""The client of the model endpoint: requests, the stream of an answer, failures."""
