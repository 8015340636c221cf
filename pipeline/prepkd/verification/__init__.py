"""Is a store what its teacher says, and do files belong together."""
