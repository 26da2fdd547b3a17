"""An HTTP server that speaks OpenAI's embeddings API: many clients' texts in shared batches."""
