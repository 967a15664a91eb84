"""Earlier answers of chats that a template changes, or that a slow tokenizer cannot locate, are warned of."""

from dataclasses import replace

from tunegate_trainer.checks import rewritten_answers


def test_slow_tokenizer_is_warned_of_where_chats_have_earlier_answers(sound, monkeypatch):
    chat = [{"role": ("user", "assistant")[i % 2], "content": f"{i}"} for i in range(4)]
    asked, chatted = (
        replace(sound.split, rows=replace(sound.split.rows, train=sound.rows_of(*rows)))
        for rows in ([{"messages": chat[:2]}], [{"messages": chat[:2]}, {"messages": chat}])
    )
    assert rewritten_answers.run(chatted, sound.context) == []
    monkeypatch.setattr(type(sound.context.tokenizer), "is_fast", property(lambda _: False))
    assert rewritten_answers.run(asked, sound.context) == []
    (finding,) = rewritten_answers.run(chatted, sound.context)
    assert "only the last answer of each row is trained on" in finding.message
