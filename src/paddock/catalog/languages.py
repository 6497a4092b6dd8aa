"""Languages by their codes: two letters of ISO 639-1, three of ISO 639-3 where there are no two."""

from __future__ import annotations

from paddock.errors import UsageError, nearest

_TABLE = """
aa=Afar ab=Abkhazian ae=Avestan af=Afrikaans ak=Akan am=Amharic an=Aragonese ar=Arabic as=Assamese av=Avaric ay=Aymara
az=Azerbaijani ba=Bashkir be=Belarusian bg=Bulgarian bi=Bislama bm=Bambara bn=Bengali bo=Tibetan br=Breton bs=Bosnian
ca=Catalan ce=Chechen ch=Chamorro co=Corsican cr=Cree cs=Czech cu=Church_Slavonic cv=Chuvash cy=Welsh da=Danish
de=German dv=Dhivehi dz=Dzongkha ee=Ewe el=Greek en=English eo=Esperanto es=Spanish et=Estonian eu=Basque fa=Persian
ff=Fulah fi=Finnish fj=Fijian fo=Faroese fr=French fy=Western_Frisian ga=Irish gd=Scottish_Gaelic gl=Galician
gn=Guarani gu=Gujarati gv=Manx ha=Hausa he=Hebrew hi=Hindi ho=Hiri_Motu hr=Croatian ht=Haitian_Creole hu=Hungarian
hy=Armenian hz=Herero ia=Interlingua id=Indonesian ie=Interlingue ig=Igbo ii=Sichuan_Yi ik=Inupiaq io=Ido is=Icelandic
it=Italian iu=Inuktitut ja=Japanese jv=Javanese ka=Georgian kg=Kongo ki=Kikuyu kj=Kuanyama kk=Kazakh kl=Kalaallisut
km=Khmer kn=Kannada ko=Korean kr=Kanuri ks=Kashmiri ku=Kurdish kv=Komi kw=Cornish ky=Kyrgyz la=Latin lb=Luxembourgish
lg=Ganda li=Limburgish ln=Lingala lo=Lao lt=Lithuanian lu=Luba-Katanga lv=Latvian mg=Malagasy mh=Marshallese mi=Maori
mk=Macedonian ml=Malayalam mn=Mongolian mr=Marathi ms=Malay mt=Maltese my=Burmese na=Nauru nb=Norwegian_Bokmål
nd=North_Ndebele ne=Nepali ng=Ndonga nl=Dutch nn=Norwegian_Nynorsk no=Norwegian nr=South_Ndebele nv=Navajo ny=Chichewa
oc=Occitan oj=Ojibwa om=Oromo or=Odia os=Ossetian pa=Punjabi pi=Pali pl=Polish ps=Pashto pt=Portuguese qu=Quechua
rm=Romansh rn=Rundi ro=Romanian ru=Russian rw=Kinyarwanda sa=Sanskrit sc=Sardinian sd=Sindhi se=Northern_Sami sg=Sango
si=Sinhala sk=Slovak sl=Slovenian sm=Samoan sn=Shona so=Somali sq=Albanian sr=Serbian ss=Swati st=Southern_Sotho
su=Sundanese sv=Swedish sw=Swahili ta=Tamil te=Telugu tg=Tajik th=Thai ti=Tigrinya tk=Turkmen tl=Tagalog tn=Tswana
to=Tongan tr=Turkish ts=Tsonga tt=Tatar tw=Twi ty=Tahitian ug=Uyghur uk=Ukrainian ur=Urdu uz=Uzbek ve=Venda
vi=Vietnamese vo=Volapük wa=Walloon wo=Wolof xh=Xhosa yi=Yiddish yo=Yoruba za=Zhuang zh=Chinese zu=Zulu ceb=Cebuano
fil=Filipino fon=Fon hmn=Hmong mai=Maithili nso=Northern_Sotho tum=Tumbuka yue=Cantonese
"""
NAMES = {code: name.replace("_", " ") for code, _, name in (entry.partition("=") for entry in _TABLE.split())}


def known_code(text: str) -> bool:
    """Whether a code can be meant: those of two letters are listed here, of three only the form is checked."""
    return text in NAMES or (len(text) == 3 and text.isascii() and text.isalpha() and text.islower())


def code(text: str) -> str:
    """The code of a language that is given as one, or by its English name. Raises UsageError with the nearest name."""
    asked = text.strip().lower()
    for known, name in NAMES.items():
        if asked in (known, name.lower()):
            return known
    if known_code(asked):
        return asked
    near = nearest(asked.title(), NAMES.values())
    hint = f"; the nearest known is {near}" if near else ""
    raise UsageError(f"{text[:60]!r} is no language{hint}", expected="a code (zh) or an English name (Chinese)")


def called(known: str) -> str:
    """The English name of a code, or the code itself."""
    return NAMES.get(known, known)
