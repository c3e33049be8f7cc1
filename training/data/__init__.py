"""What is trained and measured on: readers of files of texts, pairs and tasks, and what is made from them."""
