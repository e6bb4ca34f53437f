"""One engine for all that is trained: `engine` knows no paths, `run` and `finetune` are the shells around it."""
