"""Who answers: the forward pass, stores, several teachers as one, imported logits."""
