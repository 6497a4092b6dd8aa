"""Verbs that run a model: demo, generate, chat."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(cls=Verb, epilog="paddock demo")
def demo() -> None:
    """Tells a story with the bundled model, and says how to go on from there."""
    from paddock.cli import demonstrating

    demonstrating.demo()


@app.command(
    cls=Verb,
    epilog="""paddock generate "Once upon a time" -n 40
    paddock generate "Once upon a time" --temp 0.8 --top-p 0.9 --seed 7 -m my-model.gguf
    cat article.txt | paddock generate - -m t5-small --beams 4 --json
    paddock generate "Once" --temp 0.8 --top-k 5 -n 3 --explain""",
)
def generate(
    ctx: typer.Context,
    prompt: o.Prompt = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    max_tokens: o.MaxTokens = None,
    stop: o.Stop = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    min_p: o.MinP = None,
    typical_p: o.TypicalP = None,
    repetition_penalty: o.RepetitionPenalty = None,
    presence_penalty: o.PresencePenalty = None,
    frequency_penalty: o.FrequencyPenalty = None,
    logit_bias: o.LogitBias = None,
    seed: o.Seed = None,
    beams: o.Beams = None,
    speculate: o.Speculate = None,
    speculate_tokens: o.SpeculateTokens = None,
    ids: o.Ids = False,
    special: o.Special = False,
    no_bos: o.NoBos = False,
    echo: o.Echo = False,
    logprobs: o.Logprobs = None,
    explain: o.Explain = False,
    show_settings: o.ShowSettings = False,
    verbose: o.Verbose = False,
    json: o.Json = False,
) -> None:
    """Writes on after PROMPT, token by token as it comes.

    Stages of sampling, in this order: bias, penalties, temperature, top-k, top-p, min-p, typical-p, draw.
    """
    loading = o.Loading.of(ctx.params).begun()
    from paddock.cli import generating

    settings = o.sampling_of(ctx.params) | ({} if beams is None else {"num_beams": beams})
    asked = generating.Asked(
        loading=loading,
        prompt=prompt,
        settings=settings,
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
        speculate=speculate,
        speculate_tokens=speculate_tokens,
        ids=ids,
        special=special,
        bare=no_bos,
        echo=echo,
        logprobs=logprobs,
        explain=explain,
        show_settings=show_settings,
        verbose=verbose,
        json=json,
    )
    generating.generate(asked)


@app.command(
    cls=Verb,
    epilog="""paddock chat
    paddock chat my-model.gguf --system "Be brief." --temp 0.7
    paddock chat my-model --template vicuna
    paddock chat --url http://127.0.0.1:8000
    echo "Once there was a cat" | paddock chat -n 60""",
)
def chat(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            "--chat-template",
            metavar="NAME|FILE",
            help="Chat template: a name from `paddock template ls`, a Jinja file, or none. [default: the model's own]",
            rich_help_panel="Conversation",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system", metavar="TEXT", help="System message.", rich_help_panel="Conversation", show_default=False
        ),
    ] = None,
    max_tokens: o.MaxTokens = None,
    stop: o.Stop = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    min_p: o.MinP = None,
    typical_p: o.TypicalP = None,
    repetition_penalty: o.RepetitionPenalty = None,
    presence_penalty: o.PresencePenalty = None,
    frequency_penalty: o.FrequencyPenalty = None,
    logit_bias: o.LogitBias = None,
    seed: o.Seed = None,
    url: o.Url = None,
    api_key: o.ApiKey = None,
    named: o.Model = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="End each answer with times and rates.", show_default=False)
    ] = False,
) -> None:
    """Talks with a model, turn by turn; from a pipe, a message per line. With --url a server's model answers.

    Nothing is written to disk but by /save. /help in the chat lists its commands. The bundled model has no chat
    template: it goes on with the story.
    """
    loading = o.Loading.of({**ctx.params, "model": o.one_model(model, named)})
    if url is None:
        loading.begun()
    from paddock.cli import chatting

    chatting.chat(
        chatting.Asked(
            loading,
            template,
            system,
            o.sampling_of(ctx.params),
            max_tokens,
            tuple(stop or ()),
            verbose,
            url,
            api_key,
        )
    )
