"""Does a model find the true latents? Experiments on videos whose latents are known."""
