"""The tasks that models are scored on: named entity recognition, relation extraction, question answering."""
