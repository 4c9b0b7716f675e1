"""What a class, a colour and an image file are: the ground floor, below data and segmenter."""
