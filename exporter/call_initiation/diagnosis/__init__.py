"""What a person should look at: findings on the body of a call start, and the explanation of a saved answer."""
