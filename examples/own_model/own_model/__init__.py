"""A model, a dataset, a loss and a metric for jaxiqa."""
