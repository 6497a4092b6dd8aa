"""Lists of models that others keep, made into files of the catalogue's schema.

    drafts      what a list says of one asset, its dependencies still by name
    wording     free text as facts: sizes, dates, licences
    ecosystem   Ecosystem Graphs, YAML
    chart       LLaMA-Cult charts, Markdown
    names       names as they are spelt, and which entry they mean
    merging     drafts beside the catalogue: what is new, known, unknown, circular

What is imported stays the user's own: the sources state no licence, and nothing of their text ships with Paddock.
"""
