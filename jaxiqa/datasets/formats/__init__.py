"""File formats of several datasets or of other projects: tables, workbooks, split files, pickles."""
