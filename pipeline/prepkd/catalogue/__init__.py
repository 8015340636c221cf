"""All terms as a list, and a method's cost for a pair of models, for readers: nothing here changes a result."""
