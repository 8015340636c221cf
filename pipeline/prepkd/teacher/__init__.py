"""Teachers: the forward pass, caching and importing logits, cached and live answers, ensembles."""
