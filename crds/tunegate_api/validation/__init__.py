"""What makes a manifest valid beyond the types of its fields, and the errors that say so."""
