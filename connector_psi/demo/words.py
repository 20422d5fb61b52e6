"""Word lists for the samples: companies that do not exist, places that do, goods that travel.

Decides: vocabulary alone. Every company is named after a word for "example" or for "nowhere", every e-mail domain ends
in ``.example`` (RFC 2606), and telephone numbers come from ranges that regulators keep for fiction (``numbers``), so
that nothing here can be taken for somebody's data. Leaves to others: who ships what (``shipments``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A town or port."""

    country: str
    name: str
    locode: str
    postcode: str = ""


@dataclass(frozen=True, slots=True)
class Goods:
    """A commodity as a declaration describes it."""

    description: str
    hs6: str
    packages: str
    """UN/ECE Recommendation 21 code."""


EXAMPLE_WORDS = (
    "Beispiel", "Muster", "Exempel", "Voorbeeld", "Esempio", "Exemple", "Ejemplo", "Przyklad", "Priklad", "Primer",
    "Paradigma", "Eksempel", "Esimerkki", "Pavyzdys", "Exemplu", "Pelda", "Specimen", "Fiktiv", "Ficticia", "Fantasie",
)  # fmt: skip
TRADES = (
    "Shipping", "Logistics", "Fruit", "Textiles", "Machinery", "Furniture", "Electronics", "Coffee", "Spices", "Tyres",
    "Autoparts", "Ceramics", "Paper", "Toys", "Seafood", "Flowers", "Steel", "Chemicals", "Footwear", "Pharma",
)  # fmt: skip
NOWHERE_WORDS = (
    "Nirgendwo",
    "Nergens",
    "Utopia",
    "Erewhon",
    "Laputa",
    "Atlantis",
    "Nusquam",
    "Ingenstans",
    "Sehol",
    "Nigdzie",
)
OTHER_TRADES = (
    "Optics", "Breweries", "Printing", "Glassworks", "Timber", "Cement", "Bicycles", "Clocks", "Insurance", "Salt",
)  # fmt: skip
"""No company of one pair of lists has a word of the other: what the samples share is planted, and no name is."""
FORMS = {
    "AE": "FZE", "AT": "GmbH", "BE": "NV", "BG": "EOOD", "BR": "Ltda", "CN": "Co Ltd", "CO": "SAS", "DE": "GmbH",
    "EC": "SA", "ES": "SL", "FR": "SARL", "GB": "Ltd", "GR": "AE", "HU": "Kft", "IN": "Pvt Ltd", "IT": "Srl",
    "NL": "BV", "PL": "Sp. z o.o.", "PT": "Lda", "RO": "SRL", "RS": "DOO", "SE": "AB", "SG": "Pte Ltd", "SI": "d.o.o.",
    "TR": "Ltd Sti", "UA": "TOV", "US": "Inc", "VN": "JSC", "ZA": "Pty Ltd",
}  # fmt: skip
STREETS = ("Harbour Road", "Quay Street", "Depot Lane", "Crane Way", "Warehouse Square", "Ropewalk", "Customs Street")
PEOPLE = (
    "Muster, Erika", "Exempel, Sven", "Esempio, Maria", "Exemple, Jean", "Ejemplo, Ana", "Przyklad, Jan",
    "Voorbeeld, Piet", "Primer, Mojca", "Pelda, Bela", "Paradigma, Nikos",
)  # fmt: skip

SEA_ENTRY = (
    Place("BE", "Antwerpen", "BEANR", "2030"),
    Place("NL", "Rotterdam", "NLRTM", "3199"),
    Place("DE", "Hamburg", "DEHAM", "20457"),
    Place("FR", "Le Havre", "FRLEH", "76600"),
    Place("ES", "Valencia", "ESVLC", "46024"),
    Place("IT", "Genova", "ITGOA", "16126"),
    Place("PL", "Gdansk", "PLGDN", "80555"),
    Place("GR", "Piraeus", "GRPIR", "18538"),
    Place("PT", "Sines", "PTSIE", "7520"),
    Place("SI", "Koper", "SIKOP", "6000"),
)
SEA_ORIGIN = (
    Place("CN", "Shanghai", "CNSHA"),
    Place("CN", "Ningbo", "CNNGB"),
    Place("SG", "Singapore", "SGSIN"),
    Place("BR", "Santos", "BRSSZ"),
    Place("CO", "Cartagena", "COCTG"),
    Place("EC", "Guayaquil", "ECGYE"),
    Place("AE", "Jebel Ali", "AEJEA"),
    Place("IN", "Nhava Sheva", "INNSA"),
    Place("VN", "Haiphong", "VNHPH"),
    Place("ZA", "Durban", "ZADUR"),
    Place("US", "New York", "USNYC"),
)
ROAD_LEGS = (
    (Place("TR", "Edirne", "TREDI"), Place("BG", "Svilengrad", "BGSVD", "6500")),
    (Place("TR", "Edirne", "TREDI"), Place("GR", "Kipoi", "GRKIP", "68500")),
    (Place("UA", "Lviv", "UALWO"), Place("PL", "Medyka", "PLMDK", "37732")),
    (Place("UA", "Chernivtsi", "UACWC"), Place("RO", "Siret", "ROSIR", "725500")),
    (Place("RS", "Novi Sad", "RSNVS"), Place("HU", "Szeged", "HUSZG", "6720")),
    (Place("GB", "Dover", "GBDVR"), Place("FR", "Calais", "FRCQF", "62100")),
)
AIR_LEGS = (
    (Place("US", "New York", "USNYC"), Place("DE", "Frankfurt", "DEFRA", "60549")),
    (Place("CN", "Shanghai", "CNSHA"), Place("BE", "Liege", "BELGG", "4460")),
    (Place("IN", "Mumbai", "INBOM"), Place("FR", "Paris", "FRPAR", "95700")),
    (Place("AE", "Dubai", "AEDXB"), Place("NL", "Amsterdam", "NLAMS", "1118")),
)

GOODS = (
    Goods("Fresh bananas in cartons", "080390", "CT"),
    Goods("Frozen shrimps, peeled", "030617", "CT"),
    Goods("Green coffee in bags", "090111", "BG"),
    Goods("Black pepper, whole", "090411", "BG"),
    Goods("Cotton T-shirts, knitted", "610910", "CT"),
    Goods("Rubber boots", "640192", "CT"),
    Goods("Wooden bedroom furniture", "940350", "PK"),
    Goods("Ceramic floor tiles", "690721", "PX"),
    Goods("Toys of plastics", "950300", "CT"),
    Goods("Lithium-ion batteries", "850760", "BX"),
    Goods("Printed circuit assemblies", "853400", "CT"),
    Goods("LED lamps", "853952", "CT"),
    Goods("Pneumatic tyres for lorries", "401120", "PK"),
    Goods("Brake pads", "870830", "CT"),
    Goods("Stainless steel tubes", "730640", "BE"),
    Goods("Titanium dioxide", "320611", "BG"),
    Goods("Copy paper A4", "480256", "PX"),
    Goods("Cut roses", "060311", "CT"),
    Goods("Medicaments, packed for retail", "300490", "CT"),
    Goods("Woven carpets", "570242", "RO"),
)
VEHICLES = (
    Goods("Used passenger car", "870323", "VN"),
    Goods("Used delivery van", "870431", "VN"),
    Goods("Used motor caravan", "870333", "VN"),
)
EFFECTS = Goods("Household and personal effects of a removal", "990500", "PK")
