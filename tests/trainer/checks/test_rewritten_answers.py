"""The check rewritten_answers warns about earlier answers that a template changes or a slow tokenizer cannot
find."""

from dataclasses import replace

from tunegate_trainer.checks import rewritten_answers


def test_slow_tokenizer_gives_a_warning_for_several_chat_answers(sound, monkeypatch):
    chat = [{"role": ("user", "assistant")[i % 2], "content": f"{i}"} for i in range(4)]
    questions, chats = (
        replace(sound.split, rows=replace(sound.split.rows, train=sound.rows_of(*rows)))
        for rows in ([{"messages": chat[:2]}], [{"messages": chat[:2]}, {"messages": chat}])
    )
    assert list(rewritten_answers.run(chats, sound.context)) == []
    monkeypatch.setattr(type(sound.context.tokenizer), "is_fast", property(lambda _: False))
    assert list(rewritten_answers.run(questions, sound.context)) == []
    (finding,) = rewritten_answers.run(chats, sound.context)
    assert "only the last answer of each row is trained on" in finding.message
