"""Queries and answers in the files of other tools: one format per file, and the file's name is the format's name.

A format is a file with

* `write(queries, pool, project, ...) -> dict[str, bytes]`: the files for the tool, by name. Its positional parameters
  are what it needs of: `queries`, `pool`, `project` (an id that comes back with the answers), `known` (boxes annotated
  before), `one_class` (whether an image is asked for its class alone), `suggested` (per query id the boxes that a model
  found: a person takes, mends or deletes them). What can be set is keyword-only: `image_url`.
* `read(content, queries, pool, project, ...) -> (answers, problems)`: what is in a file that came back. It may name
  `one_class`, and the keyword-only `unfinished` (queries without a finished answer stay open), `who` (who answered; a
  format without it names people itself), `rename` (the class of ours that a name in the file means) and `unanswered`
  (the ids of the queries that nobody has answered: one whose box was deleted in the tool is answered by that). One
  problem that is refused refuses the file; a file that is none of the tool's is a `LabelwiseError`. Several answers to
  one query are no fault of a file: the import chooses.
* `detect(content) -> bool`: whether a file looks like one that came back from this tool.
* `CANNOT_CARRY`: what the format does not hold, a line each.

and, where it is so, `FRAMES_OF_VIDEO = True`: the tool has the videos; frames are not written as images for it.
`write_answers(given, pool, project) -> bytes`, a file of these (query, answer) pairs as the tool would give it back,
lets the contract test go there and back. `_questions`, `_reader` and, for tools that know boxes with attributes and
nothing else, `_shapes` do what formats share.
"""
