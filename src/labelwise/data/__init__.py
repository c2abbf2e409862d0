"""Images and ground truth: readers and writers of the usual formats, what is wrong in them, and a demo set."""
