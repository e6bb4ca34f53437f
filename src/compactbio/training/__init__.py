"""Training: `engine` and `distillation` know no paths; `pretraining` and `finetuning` are the shells around them."""
