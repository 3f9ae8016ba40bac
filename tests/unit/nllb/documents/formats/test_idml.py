from tests.office_files import members_of, opened, swapped, texts, translated, unchanged, zip_bytes


def styled(content: str, style: str = "Plain") -> str:
    return (
        f'<CharacterStyleRange AppliedCharacterStyle="{style}"><Properties><AppliedFont>Arial'
        f"</AppliedFont></Properties>{content}</CharacterStyleRange>"
    )


def idml_bytes(*paragraphs: str) -> bytes:
    ranges = "".join(
        f'<ParagraphStyleRange AppliedParagraphStyle="P">{each}</ParagraphStyleRange>'
        for each in paragraphs
    )
    story = f'<idPkg:Story xmlns:idPkg="i"><Story Self="u1">{ranges}</Story></idPkg:Story>'
    return zip_bytes(
        {
            "mimetype": "application/vnd.adobe.indesign-idml-package",
            "designmap.xml": "<Document/>",
            "Stories/Story_u1.xml": story,
        },
        stored=["mimetype"],
    )


def story_of(data: bytes) -> str:
    return members_of(data)["Stories/Story_u1.xml"].decode()


def test_paragraphs_run_over_ranges_of_characters() -> None:
    data = idml_bytes(
        styled("<Content>First</Content><Br/><Content>Now a </Content>")
        + styled("<Content>strong</Content>", "Strong")
        + styled("<Content> word</Content><Br/><Content>Last</Content>")
    )
    assert texts(opened(data)) == ["First", "Now a <1>strong</1> word", "Last"]
    change = {"Now a <1>strong</1> word": "Ein besonders <1>starkes</1>"}
    result = story_of(translated(data, change))
    assert result.count("<CharacterStyleRange") == result.count("</CharacterStyleRange>") == 3
    assert texts(opened(translated(data, change))) == [
        "First",
        "Ein besonders <1>starkes</1>",
        "Last",
    ]
    assert texts(opened(swapped(data))) == [text.swapcase() for text in texts(opened(data))]


def test_special_characters_and_tables_are_kept() -> None:
    inner = styled("<Content>Cell</Content>")
    cell = f"<Cell><ParagraphStyleRange>{inner}</ParagraphStyleRange></Cell>"
    data = idml_bytes(styled(f"<Content>Page <?ACE 18?> of\tall</Content><Table>{cell}</Table>"))
    [text, inner] = texts(opened(data))
    assert (text, inner) == ("Page <1/> of<2/> all", "Cell")
    result = story_of(swapped(data))
    assert "<Content><?ACE 18?></Content>" in result and "<Content>\t</Content>" in result
    assert "<Table><Cell>" in result and "cELL" in result


def test_right_to_left_and_no_change() -> None:
    data = idml_bytes(styled("<Content>One</Content><Br/><Content>Two</Content>"))
    assert unchanged(data) == data
    result = story_of(swapped(data, target="heb_Hebr"))
    assert result.count('ParagraphDirection="RightToLeftDirection"') == 1
