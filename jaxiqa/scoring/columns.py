"""Names of the columns of images and of their results."""

IMAGES = ("bytes", "image", "path")  # columns of images; of several, the first that has a value counts
TILES, REASON = "tiles", "reason"  # between the two stages: the bytes of the crops, and why there are none
NUMBERS = ("score", "native", "lo", "hi", "se", "percentile")  # the columns of a result that are numbers
TEXTS = ("status", "reason", "model", "crops", "word")
ROW_TEXTS = ("path", "dhash", *TEXTS)  # columns of text in a row of a job; the others are numbers
SEVERITY = "severity"  # the last column of an explanation: how strong the distortion is, 0 to 5
