"""What a stage needs of memory, by arithmetic alone: tensor bytes of its largest pass, part by part.

``shapes`` has the words, ``block`` what one layer keeps, ``estimate`` the sum, and ``fitting`` what follows:
whether a GPU holds it, and what would help.
"""
