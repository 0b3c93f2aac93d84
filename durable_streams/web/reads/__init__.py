"""What the answer to a read is made of: readers that wait, and answers that are given again."""
