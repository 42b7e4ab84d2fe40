"""What happens at times: rules, plans made of declarations and of rows, and how far each has got."""
