"""Trade words, institutions and places: the words of company names that many companies share, in many languages.

A list writes ``Zavod``, another ``Plant``, a third ``Fabrika``: one concept, so that a translated name still meets
itself. Each concept is a key of its own, written ``=plant``, and places ``@moscow``; they never stand alone in a token.
General knowledge of trade vocabulary in English, Russian, Ukrainian, Belarusian, Spanish, Portuguese, French, German,
Italian, Turkish, Persian and Arabic romanisations and Chinese; no listed company's own name.

An entry is a word or, with ``*`` at its end, what a word begins with. Words are compared after
``domain.naming.wordfold.fold``, so one romanisation of a word is enough in most cases. Phrases map several words, and
abbreviations one word, to several concepts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.wordfold import fold

__all__ = ["HAN_WORDS", "NATIVE_WORDS", "STOP_WORDS", "concepts_of_word", "phrase_at"]

_STOP: Final = (
    "the of and for a an in on at by to from with as de del la le les las los el lo du des d l y e i et "
    "und u ve va wa wal der die das dem den fur zur zum von van vom im bei da do dos di della dello dei "
    "degli delle nel al ul ur ar ad il lil li bi min fi ila o or s na po dlya pri pod za ot iz v ze z "
    "dlia imeni imja named after called known formerly aka fka nee dba other others its also all their "
    "that who which new no para por con sin en pour par avec sur ebn ye ha hay haye az ba dar"
)

STOP_WORDS: Final = frozenset(map(fold, _STOP.split()))
"""Folded words that say nothing."""

_CONCEPTS: Final[Mapping[str, str]] = {
    # Trade and finance
    "trade": (
        "trade trading trader traders tradings torgov* torgivl* torhov* comercializ* commerc* komercijaln* "
        "kommerch* handel handels ticaret ticari bazarganie bazargany tejarat tejarati tijara tijarah tijari "
        "tijariya tejari tijarat marketing merchant* maoyi shangmao treiding treid"
    ),
    "export": "exporter* exportac* exportat* eksport* iksport saderat saderati ihracat chukou",
    "import": "import imports importer* importac* importadora importation* ithalat varedat impeks jinkou",
    "bank": "bank banks banking banque banco bancaria bankas bankasi banka bankovsk* masraf yinhang",
    "finance": "financ* finans* finanz* mali maliye fainans jinrong",
    "invest": (
        "investment* investits* investic* inversion* inversora invers investor* investis* invest* yatirim "
        "sarmaye sarmayeh gozary sarmayegozari sarmayehgozari istithmar touzi"
    ),
    "capital": "kapital kapitals",
    "insurance": (
        "insur* insurer* strahov* strakhovan* seguros seguro assurance* assicur* versicher* sigorta bimeh "
        "bime reinsurance perestrakhov* tamin"
    ),
    "exchange": (
        "exchange exchanges sarraf sarrafi sarafan sirafa hawala hawalah money currency valyut* obmen cambio "
        "cambios casas remittance* doviz birzh* bourse bors transfer transfers"
    ),
    "credit": "kredit* qarz gharz qard",
    "fund": (
        "fund funds fond fondo fonds sanduq sandoq sandogh fondation foundation foundations fundac* stiftung "
        "stiftelse stiftelsen stichting vakif vakfi waqf bonyad bonyade yayasan fondazione fondatsi* "
        "muassasat muassasa moassese moasseseh muassasah trust trasta jijinhui"
    ),
    "leasing": "leasing lizing* lising* lease leases",
    "audit": "audit auditing consult* konsalt* consultor* consultan* asesor* advis* mushavere moshavere danismanlik",
    "realty": (
        "realty inmobiliar* immobili* estate estates propert* nedvizhim* inmueble* bienes raices imobiliar* "
        "emlak amlak fangdichan urbaniz*"
    ),
    "business": "business businesses biznes negocios negocio empresarial* empresari*",
    "service": (
        "service services servisi serviss servicio servicios servizi uslug* obsluzh* khadamat khadamati "
        "khidmat khidamat khedmat hizmet hizmetleri dienst* fuwu multiservici*"
    ),
    "supply": (
        "supply supplies supplier* snab* snabzhen* postavk* suministr* proveed* tedarik tadarokat tadarukat "
        "procurement zakup* purchas* provision* logistic* logist* lojistik wuliu"
    ),
    "manage": (
        "manag* upravl* menedzhment administrat* administrador* admini* yonetim modiriyat idara idarat edare "
        "guanli directorate direct* direkts* direkci* mudiriya"
    ),
    # Kinds of undertakings
    "group": (
        "group groups groupe grupp* hrupa guruh gorouh goroh goruh grubu jituan majmua majmuat mojtama "
        "mojtamae majmoue consortium konsorts*"
    ),
    "holding": "kholding*",
    "industry": (
        "industr* indust* sanate sanaye sanayi sanaat sanati sinai sinaat sinaiya promyshl* prom promislov* "
        "pramyslov* endustri sanoat gongye shiye industrij*"
    ),
    "enterprise": (
        "enterprise enterprises entreprise* empresa empresas predpriyat* pidpryyemstv* pradpryemstv* "
        "unternehm* impresa girisim isletme* preduzec* poduzec* munshaa qiye entrepris* predprini*"
    ),
    "firm": "firm firma firme firmy office offices ofis oficina daftar daftare maktab",
    "plant": (
        "plant plants zavod zavody zavodu zavoda zavodov factory factories fabryk* karkhane karkhaneh "
        "karkhanejat usine planta werk werke mill mills combine combinat* masna gongchang chang zavad "
        "manufaktur* works"
    ),
    "production": (
        "produc* proizvodst* proizvodit* vyrobnich* vytvorch* produkt* tolid tolidi towlidi toulidi uretim "
        "intaj shengchan izgotov* manufakt*"
    ),
    "association": (
        "associat* asots* asociac* obiedin* obyedn* obiadnan* verein vereinig* dernek dernegi soiuz* union* "
        "jameat jamiyyat ittihad ettehadie federatsiya* forening* vereniging confedera* societ* sociedad* "
        "tavarystv* tovarystv* tovarishch* alliance alyans xiehui"
    ),
    "institute": "institu* instytut* inistitut* ensti* enstitu* mahad moasese yanjiusuo yanjiuyuan",
    "center": (
        "center centers tsentr* centr* sentr* zentrum merkez merkezi markaz markaze markazi zhongxin "
        "tsentral* centraln* zentral* hub"
    ),
    "bureau": "bureau bureaus biuro biura buro",
    "complex": "kompleks* komplek* complejo mojtameh",
    "agency": "agency agentstv* agents* agencia* agence* agentur* vekalat wakala ajans* ahentstv* agent",
    "company-branch": (
        "branch filial* sucursal sube subesi shubeh divis* division* otdel* upravlen* podrazd* department* "
        "departament* daire sektor unit units section"
    ),
    "committee": (
        "komitet* comite* kamissi* komiss* comision* council* sovet* rada consej* shura shoura majlis lajna "
        "weiyuanhui board"
    ),
    "ministry": "minister* ministeri* ministr* vezarat wizarat wizara bakanlig*",
    "organization": (
        "organiz* organis* organizats* organizac* sazman sazmane sazeman teshkilat munazzama munazamat "
        "monazama tanzim tanzimat institution* uchrezhd* ustanov* establishm* authority establish* entity"
    ),
    "party": "partiia* partido parti hizb partei",
    "movement": "movement dvizhen* harakat haraka harekat harakah movimiento mouvement bewegung hareket*",
    "front": "front fronta jabhat jabha jebhe frente",
    "army": "armii armija armee ejercito jaysh ordu lashkar artesh jeish",
    "brigade": (
        "brigad* liwa katibat katiba kataib batal* batalon* regiment* polk otryad detachment* squad squadron "
        "corps korpus kitaib katibah"
    ),
    "force": "force forces sily sil niruye niroo niru fuerza fuerzas quwwat",
    "guard": "guard guards gvard* guardia garde* sepah pasdaran",
    "security": (
        "bezopas* bezpek* seguridad securit* secur* sicherheit amniyat amn guvenlik okhran* hefazat "
        "intelligence razvedk* ettelaat mukhabarat protect*"
    ),
    "defence": (
        "defence defens* oboron* aboron* savunma defa defae difa voenn* voenno* viiskov* vaenn* militar* "
        "nezami harbi asker* armed vooruzh* combat boevo*"
    ),
    "police": "police polits* militsiya policia polis shorta shurta",
    "university": (
        "universit* universid* univers* daneshgah danishgah daneshgahe jamia jamiat-e college kolledzh "
        "academ* school shkola uchilishch* escuela schule madrassa lycee gymnas* mekteb daxue"
    ),
    "library": "librar* bibliotek* bibliothe* museum muzey",
    "hospital": (
        "hospital* klinik* bolnits* bimarestan mostashfa medits* medik* medizin* tibbi pezeshki pezeshk "
        "health zdravookhr* zdorov* salamat salud sante sanator* kurort* polyclinic"
    ),
    "hotel": (
        "hotel* otel resort* gostinits* restaurant* restauran* restoran* cafe casino kazino turisti* turizm* "
        "touris* tur travel safar siyahat klub"
    ),
    "charity": (
        "charit* kheiri* hayri* blagotvor* benefic* welfare relief aid humanit* humanitarn* gumanitar* igatha "
        "yardim caridad emdad wohlfahrt hilfs* support podderzh*"
    ),
    "media": (
        "mediya press presse pressa news novosti noticias haber khabar akhbar khabargozari gazet* newspaper "
        "zhurnal journal* publish* izdatel* editor* information* informats* informac* informasyon etelaresani "
        "rasaneh broadcast* veshchan* teleradio* televi* tv tele telekanal channel radyo kanal studio film "
        "cinema video"
    ),
    # What is made, moved, done
    "construct": (
        "construct* konstrukts* stroit* stroy* budivel* budaunich* edile inshaat insaat insa sakhteman "
        "sakhtman sakhtemani sakht bau bauunternehm* muqawalat jianzhu building builders build omran obras "
        "constru* montazh* arquitect* architect*"
    ),
    "engineering": (
        "engineer* inzhener* inzhiniring* inzhynir* ingeni* ingenier* muhendislik* mohandesan mohandessin "
        "mohandessi handasi engeneering injiniring gongcheng"
    ),
    "design": "design disain dizain* konstruktor* projekt* tarrahi sheji",
    "science": (
        "science sciences scientif* nauk* nauchn* navukov* naukov* research* issledovat* issledov* doslid* "
        "dasledch* cientif* scientifi* recherche* forsch* investigacion* tahghighat tahghighati tahqiqat "
        "pazhuhesh* pajouhesh* pazhoohesh* pajohesh* elmi ilmi olum ulum arastirma keji yanjiu"
    ),
    "development": (
        "development* develop* razvit* razrabot* rozvytk* desarroll* entwickl* desenvolv* kalkinma tosse "
        "toseh toseye towsee tosea tanmiya kaifa progress gelistirme sviluppo gostaresh gostareshe"
    ),
    "technology": (
        "technol* tekhnol* techniq* tech tekh tekhn* tehnolog* tehnik* teknoloji* fannavari fanavaran fani "
        "fanavar tecnolog* tecnic* tekno taqniya jishu texnolog*"
    ),
    "electronic": "elektron* elektronik* alektron* ilektron* elektr electro dianzi mikroelektron* barq bargh",
    "system": "sistem* systema* systeme* samaneh samane nizam",
    "computer": (
        "computer* kompiuter* computing vychislit* computac* rayaneh rayane software programm* soft "
        "bilgisayar bilisim digital tsifrov* kiber* internet network* set seti setevo* data dannye dannykh "
        "robot*"
    ),
    "telecom": (
        "telekom* communicat* kommunikats* sviaz* komunik* comunicac* mokhaberat ertebatat iletisim "
        "haberlesme ittisalat mobil* sotov* tongxin signal*"
    ),
    "instrument": (
        "instrument* pribor* priborostr* prylad* device* ustroist* instrumental* abzar equipment* oborud* "
        "ekipman equipo* tajhizat tahjizat tajhiz apparat* shebei komponent* detail* zapchast* parts tool "
        "tools hardware"
    ),
    "machine": "machin* maquin* makina* mashynabud* mashinostr* mashyn* machinesazi jixie machinebuild* mekhaniz*",
    "mechanical": "mechanic* mekhanich* mecani* mekanik* mehanik* mechan* mekhan*",
    "optic": "optik* optich* opto optoelectr* laser* lazer* photonic*",
    "metal": (
        "metall* metallurg* steel stal stali staley acero* celik fulad folad stahl acier iron zhelez* ahan "
        "ferro gangtie alyumin* alumin* copper med medn* mes zinc tsink* tsvetn* nikel* gold zolot* oro "
        "titan*"
    ),
    "mining": (
        "mining mine mines mineral* miner* gorno* gornyy rudnik* gok minas madan madani kuangye kaolin "
        "dobych* extract* maden madencilik coal ugol* uglya carbon komur quarry diamond* almaz*"
    ),
    "oil": (
        "oil oils neft* naft* petrol* petrole* petro neftegaz* shiyou benzin* fuel* toplivn* combustible* "
        "sukht gasoline lubric* smazoch*"
    ),
    "gas": "gas gaz gaza gazov* gases gaze tianranqi",
    "petrochemical": "petrochemic* neftekhim* petrokimya petroshimi petrochimi petroshimie petroquim* petrochemie",
    "refinery": "refin* palayesh palayeshgah neftepererabat* pererabot*",
    "chemical": "chemic* khimich* khim khimi* chemi* chimi* quimic* kimya* shimi shimiyai huaxue huagong",
    "energy": (
        "energ* enerji* energet* power elektroenerg* niru niroo nirou nengyuan electricity solar hydro* gidro turbin*"
    ),
    "nuclear": "yadern* atomn* atom atomic hastei hastehi nukle* radiation radiats*",
    "space": (
        "space cosm* kosmich* aerospace raketno* raket* rocket* missile* mushak mushaki mooshak havafaza "
        "havafza hangtian"
    ),
    "aviation": (
        "aviats* aviacion* avia aviati* aircraft* aero samolet* vozdush* havayi havaei havapeyma* havacilik "
        "tayyara tayaran tayran air airline* airways airport* aeroport* avialin* avion vertolet* helicopter* "
        "flight letn* polet hangkong unmanned bespilotn* drone* uav"
    ),
    "engine": "engine engines motor motors dvigatel* dvigun* motoro motorostr*",
    "auto": (
        "auto avto automobil* avtomobil* khodro khodrou otomotiv vehicle* truck* gruzovik* automotriz* "
        "automot* car cars qiche traktor*"
    ),
    "automation": "automat* avtomat* avtomatik* automatiz* otomasyon",
    "ship": (
        "ship ships shipbuild* shipyard* sudostr* sudo* sudoremont* verf verfi zavodverf tersane keshtisazi "
        "kashtisazi korabl* korable* zaochuan vessel* sudno sudov* boat*"
    ),
    "marine": (
        "marin* maritim* morsk* daryaye daryayi deniz denizcilik bahri bahriya bahr sea seas morya more naval "
        "nav voennomor* navy flot flota fleet* haijun haiyang seaman* offshore okean* shelf"
    ),
    "shipping": (
        "shippin* keshtirani kashtirani sudokhod* parokhod* navier* navig* navigats* reeder* haiyun hangyun "
        "chuanwu lines line linii liniya tanker* cargo* freight* gruz* carrier* forward*"
    ),
    "port": (
        "port ports porto puerto porta portov* bandar banader liman limani gangkou seaport* terminal* morport "
        "stividor* stevedor* dock docks harbour harbor"
    ),
    "transport": (
        "transport* transp* transit* tranzit* trans haml naql haml-o hamlonaql nakliyat nakliye perevoz* "
        "yunshu tarabari tarabar rail railway* zheleznodorozhn* zheleznaya doroga rahahan ferrocarril* "
        "ekspress"
    ),
    "repair": "repair* remont* reparac* tamir* onarim maintenan* obsluzhivan*",
    "weapon": (
        "weapon* oruzh* arms armament* vooruzhen* ammunit* boepripas* patron* cartridge* silah aslahe mohemat "
        "mohimmat strelk* artiller* ordnance tank tankov* bronetekhn*"
    ),
    "electromechanic": "elektromekhan* elektromechan*",
    "radio-tech": "radioelektron* radiotekh* radiotech* radiozavod* radiolokats* radar*",
    "building-material": (
        "cement* tsement* siman beton* concrete brick* kirpich* materyal* masaleh keramik* glass steklo* shisheh"
    ),
    "textile": "tekstil* nassaji tela cloth* odezhd* garment* apparel fashion moda shvein*",
    "food": (
        "food foods pishchev* alimento* ghazai ghaza gida lebensm* shipin bakery dairy moloch* meat myas* "
        "carne* fish rybn* rybol* ryba pescad* pesquer* pesca seafood* fisher* wine wines vino vin vinzavod "
        "winery sugar sakhar* tea tobacco tabac*"
    ),
    "agro": (
        "agro agri agric* agrar* agropec* selsk* selskokhoz* keshavarzi kesht tarim tarimsal zirai ziraa "
        "ganader* ganado* ranch* farm farms farmer* ferm* nongye hacienda finca livestock grain zern* khleb* "
        "seed seeds"
    ),
    "pharma": (
        "farmats* farmac* farm farma* darou daru daroo darouei ilac eczac* medicament* drug drugs droguer* "
        "drogas drogueria* laborator* labor azmayeshgah"
    ),
    "water": "water vod vodn* vodokanal* agua* abfa",
    "wood": "wood les lesn* timber madera* paper bumag* kaghaz forest*",
    "market": (
        "market* rynok bazaar store stores shop shops magazin tienda* almacen* foroush foroushgah forushgah "
        "supermarket* mercado* mercantil* shangdian distribu* wholesale"
    ),
    "sport": "sport* futbol football fitness deport* varzeshi",
    "prison": "prison* tyurm* zendan carcel jail kolon* penitent* detention correct*",
    "interior": "internal interior vnutrenn* dakheliya dahiliya icisleri",
    "affairs": "affairs affair del asuntos",
    "enforce": "enforce* entezami intizami",
    "troops": "troops voiska voysk troop",
    "traffic": "traffic* narcot* cartel cartels mafia gang gangs banda clan crime crimes criminal criminals prestupn*",
    "partner": "partner partners partnership* associates partnyor* socios",
    "joint": "joint sovmestn* mushtarak moshtarek venture ventures",
    "ground": "ground sukhoputn* zamini",
    "renovation": "renovation* renov* nosazi modernizats* moderniz*",
    "president": "president* prezident* riyasat",
    "initiative": "initiativ* initsiativ* iniciativ*",
    "housing": "housing maskan zhilishchn* vivienda* konut",
    "waste": "waste recycl* otkhod* ekolog* environment* cevre",
    "road": "road roads dorog dorogi dorozhn* avtodor highway* bridge bridges most mosty mostov puente*",
    "women": "women woman zhensk* mujeres zanan kadin",
    "monitor": "monitor* supervis* nadzor* nazarat denetim oversight",
    "spirits": "distill* likero* vodk* spirit spirits beer piv* brewer* destil*",
    "filling-station": "station* stantsi* estacion* gasoliner* servicentro istgah istasyon",
    "command": "command* komandov* farmandehi qiyada komutan*",
    "liquidation": "liquidation likvidats* liquidacion",
    "expert": "ekspert*",
    "electoral": "elect electoral* election* izbirat* vybor* intikhabat entekhabat",
    "hydro": "hydrograph* gidrograf* hydrometeo* gidrometeo*",
    "semiconductor": "semiconductor* poluprovodn* semiconduct*",
    "vacuum": "vakuum*",
    "acoustic": "acoustic* akustich* akustik*",
    "applied": "applied prikladn*",
    "problem": "problem* kompleksnykh",
    "process": "process* protsess* proses",
    "means": "sredstv sredstva sredstvo means facilit*",
    "measure": "measur* izmerit* metrolog*",
    "navigation": "giroskop* navigatsionn*",
    "trade-union": "syndicate* sindikat* profsoyuz*",
    "religion": "church* tserkov iglesia mosque mescid masjid moschee religio*",
    "refugee": "refugee* bezhent* orphan* orfanat* yatim*",
    "beauty": "beauty cosmetic* kosmet* belleza perfum* parfum*",
    "office": "sekretariat* kabinet*",
    "world": "dunia welt monde mundo",
    "gymnastics": "wrestl* boxing boks karate",
    # Qualifiers
    "general": "general* generaln* genel gener* umum amm obshchiy obshchego obshchei",
    "international": (
        "internation* internac* internazional* mezhdunarodn* mizhnarodn* mezhdunar* beinolmelal* beinalmelal* "
        "bein-ol uluslararasi duwali dawliya duwaliya dowali aldawlia alduwalia guoji internatsion* intl "
        "intern global* globaln* world mirov* jahan jahani alami mondial* mundial* beynol foreign vneshn* "
        "zarubezhn* khareji dis overseas"
    ),
    "national": (
        "national* natsional* nacional* natsyyanaln* natsion* nazional* milli watani wataniyya meli quoying "
        "state gosudarstv* derzhavn* dziarzhaun* estatal* dowlati dawlati devlet hukumat government* "
        "pravitel* public publich* federal* federat* obshchestv*"
    ),
    "republic": "republ* respublik* jomhuri jumhuri jumhuriya jomhouri cumhuriyet gonghe",
    "regional": (
        "region* oblast* oblastn* kraevo* kray rayon* provinc* ostan vilayet* territor* district* okrug* "
        "gorod* city municip* munitsip* shahr shahrdari local mestn*"
    ),
    "people": "people* narodn* narodno* pueblo popular* mardom shaab shabi renmin folk khalq khalgh",
    "democratic": "demokrat*",
    "special": "special* spets* spetsial* especial* vizheh vizhe",
    "experimental": "eksperiment* opytn* opytno* doslidn*",
    "united": "united* objedin* obedinenn* unido unidos unida unidas mottahed mottahede muttahida birlesik",
    "first": "first perv* primer* avval",
    "central-main": "main glavn* golovn* head",
    "advanced": "advanced peredov* pishrafte pishrafteh perspektivn* modern sovremen* nov innovats* inovat*",
    "integrated": "integrat* integrir* intehral*",
    "independent": "independ* nezavis* mostaghel autonom* avtonom* avton* private chastn* khosousi khususi ozel",
    "control": "kontrol* quality kachestv* standart* standard* inspection inspekts* test testing ispytat*",
    "chain": "chain solution* reshen* resheni* soluciones consultores cozum*",
    "training": (
        "training education* obrazovat* obuchen* amuzesh amuzeshi egitim educac* tarbi* children* detsk* "
        "youth molodezh* ninos scout*"
    ),
    "culture": "kultur* farhang* kulturn* thaqafa art arts iskusstv*",
    "islamic": "islam* eslami moslem muslim* musulm*",
    "jihad": "jihad cihad jehad",
    "liberation": "liberation* osvobozhd* tahrir kurtulus liberac*",
    "resistance": "resistance* soprotivl* moghavemat muqawama moqavemat",
    "revolution": "revolution* revolutsi* revoluc* enghelab inqilab devrim* enqelab thawra",
    "victory": "victory pobeda pobedy zafer",
    "martyr": "martyr* shahid* shahed shuhada sehit",
    "brother": (
        "brother* bros hermanos hermano bratya baradaran kardesler ikhwan freres fratelli gebruder sons hijos filhos"
    ),
    "physic": "fizik* fizich* fisic*",
    "biolog": "biolog* biotekh* biotech* bio",
    "geo": "geolog* geofiz* geophys* geodez* kartograf*",
    "mathem": "matemat* mathemat* math",
    "east": "east eastern vostok vostoch* oriente oriental sharq sharqi shargh dogu orient khavar",
    "middle-east": "khavarmiyaneh",
    "west": "west western zapad* occident* gharb gharbi bati oeste",
    "north": "north northern sever* norte shomal shamal kuzey nord",
    "south": "south southern yuzhn* yug sur jonub janoob janub guney sud",
    "justice": "justice sud court* yustits* justicia adliye adalat law prokuratur* prosecut* pravo* zakon",
    "economy": "ekonom* eqtesad* eghtesad* iqtisad*",
    "social": "social* sotsial* sosyal ejtemai",
    "politic": "politic* politich* siyasi siyaset",
    "customs": "customs tamozh* gumruk gomrok aduana*",
    "free": "free azad libre svobod* hurr",
    "zone": "zone zona zony mantaghe manteghe mintaqa area",
    "high": "high higher vysh* vysok* supreme verkhovn*",
    "precision": "precis* tochn* daghigh",
    "store": "warehouse* sklad* anbar depo storage khranen*",
    "cooperation": "kooperat* taavon taavoni sotrudnich* cooperativ*",
    "reconstruct": "reconstruct* rekonstrukts* bazsazi",
    "volunteer": "volunteer* dobrovol* mobiliz*",
    "tactical": "tactic* taktich* strateg* strategi*",
    "furniture": "furniture mebel* muebles",
    "jewel": "yuvelir* joyer* jewell*",
    "heavy": "heavy tyazhel* sangin",
    "light": "light lights lighting svet svetotekh*",
    "cable": "cable* kabel*",
    "package": "packag* upakov* ambalaj",
    "print": "print* poligraf* tipograf* matbaa imprenta chap",
    "plastic": "plastik* polymer* rubber kauchuk* lastik rezin*",
    "rent": "rent rental* alquiler* arriend* renta rentas",
    "sell": "sales sale prodazh* ventas venta",
}
"""Concept to words, romanised."""

_PLACES: Final[Mapping[str, str]] = {
    "levant": "levant",
    "iran": "iran irans iranian* irani persia persian farsi pars",
    "iraq": "irak iraqi*",
    "syria": "syria syrian* suria souriya suri",
    "lebanon": "lebanon lubnan liban libano lebanes*",
    "palestine": "palestin* filistin* falastin felestin",
    "yemen": "yemen* yaman*",
    "libya": "libia* libyen*",
    "egypt": "egypt* misr mesr misir",
    "jordan": "jordan* urdun",
    "saudi": "saudi*",
    "emirates": "emirates emarat uae imarat emirati birlesikarap",
    "qatar": "qatar*",
    "kuwait": "kuwait*",
    "turkey": "turkey turki* turk turkiye tyurk* turquia turetsk*",
    "afghanistan": "afgan*",
    "pakistan": "pakistan*",
    "india": "india* hind hindustan indiysk*",
    "bangladesh": "bangladesh*",
    "indonesia": "indones*",
    "philippines": "filipin*",
    "malaysia": "malaysia* malays*",
    "singapore": "singapor* singapur xinjiapo",
    "thailand": "thailand* thai",
    "vietnam": "vietnam*",
    "myanmar": "myanmar* myanma burma burmese birma",
    "cambodia": "cambodia* kampuchea",
    "china": "china chinese zhongguo kitay* chine sino chin",
    "hongkong": "hongkong xianggang hk",
    "taiwan": "taiwan*",
    "japan": "japan* nippon nihon yapon*",
    "korea": "korea* korean* choson chosun joson koryo chaoxian koreisk* korey* dprk chosen",
    "russia": "russia* rossiya* rossiy* rossijsk* russie russ russk* ruso ros rf",
    "belarus": "belarus* bielorus* bel",
    "ukraine": "ukrayin* ucran*",
    "crimea": "crimea crimean crimee krym kryma krimu krymsk*",
    "donetsk": "donets* donetsk* donbas* dnr dpr",
    "luhansk": "luhansk* lugansk* lnr lpr",
    "kazakhstan": "kazakh* qazaq*",
    "uzbekistan": "uzbek*",
    "tajikistan": "tajik* tadzhik* tojik*",
    "kyrgyzstan": "kirgiz*",
    "turkmenistan": "turkmen*",
    "azerbaijan": "azerbay*",
    "armenia": "armen* armyan*",
    "georgia": "georgia* gruzi*",
    "germany": "german* deutsch* alman* alemania",
    "france": "france francai* french frants* francia",
    "italy": "italy italia* ital",
    "spain": "spain spanish espan*",
    "britain": "british britain uk england english",
    "usa": "usa american* america us",
    "canada": "kanad*",
    "cuba": "cuba*",
    "mexico": "meksik*",
    "colombia": "colomb* kolumb*",
    "venezuela": "venezuel* venezol*",
    "panama": "panam*",
    "nicaragua": "nicarag*",
    "brazil": "brazil* brasil*",
    "africa": "africa* afrik* ifriqiya",
    "europe": "europ* evrop* euro evro",
    "asia": "asia* azia* aziat* aziatsk*",
    "arab": "arab arabs arabi arabian arabic arabiya",
    "caribbean": "carib*",
    "gulf": "gulf khalij",
    "moscow": "moskv* moskov* mosk mos",
    "petersburg": "petersburg* peterburg* spb leningrad* sankt",
    "novosibirsk": "novosibirsk*",
    "ekaterinburg": "yekaterinburg* sverdlov*",
    "nizhny": "nizhn* nizhegorod* novgorod*",
    "kazan": "kazan* tatarstan* tatar*",
    "chelyabinsk": "chelyabinsk*",
    "omsk": "omsk*",
    "samara": "samara samarsk*",
    "rostov": "rostov*",
    "ufa": "ufa ufim* bashk*",
    "perm": "perm permsk*",
    "voronezh": "voronezh*",
    "volgograd": "volgograd*",
    "saratov": "saratov*",
    "tula": "tula tulsk*",
    "izhevsk": "izhevsk* udmurt*",
    "ulyanovsk": "ulyanovsk*",
    "barnaul": "barnaul* altay*",
    "irkutsk": "irkutsk*",
    "khabarovsk": "khabarovsk*",
    "vladivostok": "vladivostok* primorsk*",
    "tomsk": "tomsk*",
    "kemerovo": "kemerov*",
    "ryazan": "riazan*",
    "penza": "penza penzen*",
    "kaluga": "kaluga kaluzh*",
    "smolensk": "smolensk*",
    "bryansk": "bryansk*",
    "kursk": "kursk*",
    "orel": "orlovsk*",
    "tver": "tver tversk*",
    "yaroslavl": "yaroslav*",
    "kostroma": "kostrom*",
    "vologda": "volog*",
    "arkhangelsk": "arkhangel*",
    "murmansk": "murmansk*",
    "kaliningrad": "kaliningrad* baltiy* baltysk* pribalt*",
    "sevastopol": "sevastopol*",
    "simferopol": "simferopol*",
    "kerch": "kerch*",
    "ural": "ural*",
    "siberia": "siberia* sibir* sib",
    "volga": "volga volzh* povolzh*",
    "caucasus": "caucas* kavkaz*",
    "far-east": "dalnevostoch*",
    "black-sea": "chernomor*",
    "minsk": "minsk*",
    "grodno": "grodno grodnen* hrodn*",
    "gomel": "gomel* homel*",
    "brest": "brest brestsk*",
    "vitebsk": "vitebsk* vitsebsk*",
    "mogilev": "mogilev* mahiliou*",
    "kiev": "kiyev kyiv kievsk* kyivsk*",
    "odessa": "odes*",
    "kharkov": "kharkov* kharkiv*",
    "tehran": "tehran* teheran* tegeran*",
    "isfahan": "isfahan* esfahan*",
    "mashhad": "mashhad* meshed",
    "shiraz": "shiraz* fars",
    "tabriz": "tabriz*",
    "kish": "kish",
    "qeshm": "qeshm",
    "qom": "qom",
    "karaj": "karaj",
    "kerman": "kerman*",
    "yazd": "yazd",
    "bushehr": "bushehr* bushihr",
    "hormozgan": "hormoz*",
    "khuzestan": "khuzest* khouzest*",
    "khorasan": "khorasan* khurasan*",
    "abadan": "abadan*",
    "damascus": "damascus dimashk damas sham",
    "aleppo": "aleppo halab",
    "homs": "homs hims",
    "latakia": "ladhiqiya lattakia",
    "beirut": "beirut* bayrut beyrouth",
    "baghdad": "baghdad*",
    "basra": "basra*",
    "mosul": "mosul mawsil",
    "gaza": "ghazza",
    "jerusalem": "jerusalem quds qods kudus aqssa",
    "dubai": "dubay",
    "abudhabi": "dhabi",
    "istanbul": "istanbul*",
    "ankara": "ankara",
    "beijing": "beijing peking",
    "shanghai": "shanghai",
    "shenzhen": "shenzhen",
    "guangzhou": "guangzhou guangdong canton",
    "dalian": "dalian",
    "tianjin": "tianjin",
    "qingdao": "qingdao shandong",
    "dandong": "dandong liaoning shenyang",
    "ningbo": "ningbo zhejiang hangzhou",
    "jiangsu": "jiangsu nanjing suzhou",
    "wuhan": "wuhan hubei",
    "sichuan": "sichuan chengdu",
    "xinjiang": "xinjiang",
    "pyongyang": "pyongyang pyongan",
    "seoul": "seoul",
    "tokyo": "tokyo",
    "bogota": "bogota*",
    "cali": "cali",
    "medellin": "medellin",
    "valle": "valle",
    "guadalajara": "guadalajara jalisco",
    "sinaloa": "sinaloa culiacan",
    "tijuana": "tijuana",
    "havana": "havana habana",
    "caracas": "caracas",
    "kabul": "kabul",
    "karachi": "karachi",
    "peshawar": "peshawar",
    "lahore": "lahore",
    "belgrade": "belgrad* beograd*",
    "london": "london",
    "hamburg": "hamburg",
    "berlin": "berlin",
    "vienna": "vienna wien",
    "zurich": "zurich",
    "geneva": "geneva geneve",
    "pacific": "pacific tikhookean*",
    "atlantic": "atlantic*",
}
"""Place to words, romanised: adjectives are their place."""

_PHRASES: Final[Mapping[str, str]] = {
    "hong kong": "@hongkong",
    "north korea": "@korea",
    "saint petersburg": "@petersburg",
    "st petersburg": "@petersburg",
    "nizhny novgorod": "@nizhny",
    "nizhniy novgorod": "@nizhny",
    "united arab emirates": "@emirates",
    "abu dhabi": "@abudhabi",
    "middle east": "=middle-east",
    "khavar mianeh": "=middle-east",
    "sharq al awsat": "=middle-east",
    "far east": "@far-east",
    "far eastern": "@far-east",
    "black sea": "@black-sea",
    "russian federation": "@russia",
    "rossiyskaya federatsiya": "@russia",
    "rossiyskoy federatsii": "@russia",
    "united kingdom": "@britain",
    "united states": "@usa",
    "united states of america": "@usa",
    "people s republic of china": "@china",
    "democratic people s republic of korea": "@korea",
    "islamic republic of iran": "@iran",
    "design bureau": "=design =bureau",
    "konstruktorskoe byuro": "=design =bureau",
    "konstruktorskoye byuro": "=design =bureau",
    "bureau of design": "=design =bureau",
    "joint venture": "=joint-venture",
    "machine building": "=machine",
    "machine tool": "=machine-tool",
    "machine tools": "=machine-tool",
    "instrument making": "=instrument",
    "instrument engineering": "=instrument",
    "ship building": "=ship",
    "ship repair": "=ship =repair",
    "shiprepair": "=ship =repair",
    "ship management": "=manage =ship",
    "oil refinery": "=refinery",
    "air force": "=airforce",
    "armed forces": "=armedforces",
    "trading house": "=trade",
    "torgovyy dom": "=trade",
    "torgovyi dom": "=trade",
    "trade house": "=trade",
    "real estate": "=realty",
    "bienes raices": "=realty",
    "bines raices": "=realty",
    "sarmaye gozari": "=invest",
    "sarmayeh gozari": "=invest",
    "money exchange": "=exchange",
    "casa de cambio": "=exchange",
    "limited liability partnership": "",
    "haml o naghl": "=transport",
    "hamlo naghl": "=transport",
    "import export": "=import =export",
    "information technology": "=it",
    "information technologies": "=it",
    "informatsionnye tekhnologii": "=it",
    "higher education": "=university",
    "off shore": "=marine",
    "san ve tic": "=industry =trade",
    "san ve dis tic": "=industry =trade",
    "tic ve san": "=trade =industry",
    "san tic": "=industry =trade",
    "dis tic": "=trade",
    "internal affairs": "=interior",
    "vnutrennikh del": "=interior",
    "ministry of interior": "=ministry =interior",
    "import and export": "=import =export",
    "oil and gas": "=oil =gas",
}
"""Several words to concepts; the longest that fits is taken."""

_ABBREVIATIONS: Final[Mapping[str, str]] = {
    "npo": "=science =production =association",
    "rpa": "=science =production =association",
    "npp": "=science =production =enterprise",
    "rpe": "=science =production =enterprise",
    "spe": "=science =production =enterprise",
    "npk": "=science =production",
    "npf": "=science =production =firm",
    "npts": "=science =production =center",
    "npc": "=science =production =center",
    "rpc": "=science =production =center",
    "rdc": "=science =development =center",
    "nii": "=science =institute",
    "nits": "=science =center",
    "ntts": "=science =technology =center",
    "ntc": "=science =technology =center",
    "stc": "=science =technology =center",
    "rtc": "=science =technology =center",
    "ntk": "=science =technology =complex",
    "ntp": "=science =technology =enterprise",
    "nts": "=science =center",
    "po": "=production =association",
    "pa": "=production =association",
    "kb": "=design =bureau",
    "db": "=design =bureau",
    "tskb": "=center =design =bureau",
    "ckb": "=center =design =bureau",
    "cdb": "=center =design =bureau",
    "ccb": "=center =design =bureau",
    "okb": "=experimental =design =bureau",
    "skb": "=special =design =bureau",
    "sdb": "=special =design =bureau",
    "skbm": "=special =design =bureau =machine",
    "spkb": "=special =design =bureau",
    "pkb": "=design =bureau",
    "edb": "=experimental =design =bureau",
    "tsnii": "=center =science =institute",
    "cnii": "=center =science =institute",
    "vnii": "@russia =science =institute",
    "gosnii": "=national =science =institute",
    "mz": "=mechanical =plant",
    "emz": "=electromechanic =plant",
    "oez": "=zone =special =economy",
    "td": "=trade",
    "gk": "=group",
    "ran": "@russia =science =university",
    "ras": "@russia =science =university",
    "arz": "=aviation =repair =plant",
    "vpk": "=defence =industry",
    "opk": "=defence =industry",
    "tpk": "=trade =industry",
    "tpf": "=trade =production =firm",
    "tek": "=transport",
    "it": "=it",
    "mmp": "=marine =shipping",
    "mtp": "=marine =trade =port",
    "agrofirm": "=agro =firm",
    "neftegaz": "=oil =gas",
    "energomash": "=energy =machine",
    "transmash": "=transport =machine",
    "tyazhmash": "=heavy =machine",
    "khimmash": "=chemical =machine",
    "sudoremont": "=ship =repair",
    "sudoremontnyy": "=ship =repair",
    "aviaremontnyy": "=aviation =repair",
    "strakhovanie": "=insurance",
    "minoborony": "=ministry =defence",
    "vostokstroy": "=east =construct",
}
"""One word to several concepts."""

NATIVE_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "شركة": "sharika",
        "شرکت": "sherkat",
        "مجموعة": "majmua",
        "گروه": "goruh",
        "بنك": "bank",
        "بانک": "bank",
        "مصرف": "masraf",
        "بازرگانی": "bazargani",
        "تجارة": "tijara",
        "التجارة": "tijara",
        "للتجارة": "tijara",
        "تجاری": "tejarat",
        "التجارية": "tijariya",
        "العامة": "umumi",
        "صنایع": "sanaye",
        "صنعت": "sanat",
        "صنعتی": "sanati",
        "الصناعية": "sinaiya",
        "توسعه": "tosee",
        "نفت": "naft",
        "النفط": "naft",
        "گاز": "gaz",
        "الغاز": "gaz",
        "پتروشیمی": "petroshimi",
        "ایران": "iran",
        "سوريا": "suriya",
        "السورية": "suriya",
        "لبنان": "lubnan",
        "العراق": "iraq",
        "الدولية": "duwaliya",
        "بین": "international",
        "المللی": "international",
        "النقل": "transport",
        "للنقل": "transport",
        "الشحن": "shipping",
        "کشتیرانی": "keshtirani",
        "خدمات": "khadamat",
        "لخدمات": "khadamat",
        "للخدمات": "khadamat",
        "مؤسسة": "muassasa",
        "بنیاد": "bonyad",
        "جمعية": "jamiyat",
        "وزارت": "vezarat",
        "وزارة": "wizara",
        "سازمان": "sazman",
        "دانشگاه": "daneshgah",
        "مهندسی": "mohandesi",
        "الهندسية": "engineering",
        "جبهة": "jabhat",
        "الکترونیک": "elektronik",
        "مارين": "marine",
        "قابضة": "holding",
        "القابضة": "holding",
        "شمح": "fzco",
        "شمم": "sal",
        "شمل": "sal",
        "ذمم": "wll",
        "مدمس": "dmcc",
        "مم": "wll",
        "חברה": "company",
        "בעמ": "ltd",
        "בנק": "bank",
        "บริษัท": "company",
        "จำกัด": "limited",
        "주식회사": "company",
        "무역": "trade",
        "은행": "bank",
        "그룹": "group",
        "조선": "korea",
        "株式会社": "company",
        "合同会社": "company",
    }
)
"""Words in their own letters, as a name is split (dots inside an abbreviation gone), to a word of the tables."""

HAN_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        written: word
        for word, forms in {
            "company": "股份有限公司 有限责任公司 有限責任公司 股份公司 有限公司 总公司 總公司 公司 株式会社 商行 商社",
            "branch": "分公司",
            "group": "集团 集團",
            "holding": "控股",
            "trade": "贸易 貿易 商贸 商貿 经贸 經貿",
            "import export": "进出口 進出口",
            "international": "国际 國際 环球 環球",
            "industry": "实业 實業 工业 工業 产业 產業",
            "technology": "科技 技术 技術",
            "electronic": "电子 電子 电器 電器",
            "engineering": "工程",
            "machine": "机械 機械",
            "machine tool": "机床 機床",
            "equipment": "设备 設備 仪器 儀器",
            "shipping": "航运 航運 海运 海運 船务 船務",
            "logistics": "物流",
            "supply chain": "供应链 供應鏈",
            "transport": "运输 運輸",
            "airline": "航空",
            "space": "航天",
            "bank": "银行 銀行",
            "invest": "投资 投資",
            "finance": "金融",
            "development": "发展 發展 开发 開發",
            "construction": "建设 建設 建筑 建築",
            "production": "生产 生產",
            "manufacturing": "制造 製造",
            "petroleum": "石油",
            "chemical": "化工 化学 化學",
            "energy": "能源",
            "material": "材料",
            "metal": "金属 金屬 钢铁 鋼鐵",
            "optical": "光电 光電 光学 光學",
            "laser": "激光",
            "information technology": "信息技术 信息技術",
            "information": "信息 資訊",
            "communication": "通信 通讯 通訊",
            "semiconductor": "半导体 半導體",
            "science institute": "研究院 研究所",
            "university": "大学 大學",
            "bureau": "局",
            "city": "市",
            "province": "省",
            "management": "管理",
            "service": "服务 服務",
            "consulting": "咨询 諮詢",
            "pharma": "医药 醫藥 制药 製藥",
            "food": "食品",
            "textile": "纺织 紡織",
            "china": "中国 中國",
            "korea": "朝鲜 朝鮮",
            "hongkong": "香港",
            "beijing": "北京",
            "shanghai": "上海",
            "shenzhen": "深圳",
            "guangzhou": "广州 廣州",
            "guangdong": "广东 廣東",
            "dalian": "大连 大連",
            "tianjin": "天津",
            "qingdao": "青岛 青島",
            "shandong": "山东 山東",
            "dandong": "丹东 丹東",
            "ningbo": "宁波 寧波",
            "jiangsu": "江苏 江蘇",
            "suzhou": "苏州 蘇州",
            "wuhan": "武汉 武漢",
            "sichuan": "四川",
            "xinjiang": "新疆",
            "chengdu": "成都",
            "hangzhou": "杭州",
            "nanjing": "南京",
        }.items()
        for written in forms.split()
    }
)
"""Words inside a run of Chinese characters to words of the tables; what is between them is the company's own name."""

_SHORTEST_STEM: Final = 3
_ENDING: Final = re.compile(
    r".{0,4}|.{0,3}(?:ador|edor|ichesk|estven|stven|itel|atel|ovan|ovat|irov|esk|onn|enn|ion|ment|logi|ogich|log|aln|an"
    r"|en|in|ov|al|el|sk|ik|n).{0,4}"
)
"""What may follow a stem: an inflection, not another word (``elektropribor`` is no form of ``elektr``)."""


def _entries(table: Mapping[str, str], mark: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return whole words and stems of a table, folded, each with its one key."""
    whole: dict[str, tuple[str, ...]] = {}
    stems: dict[str, tuple[str, ...]] = {}
    for concept, words in table.items():
        for word in words.replace("'", "").split():
            if word.endswith("*"):
                stems.setdefault(fold(word[:-1]), (mark + concept,))
            else:
                whole.setdefault(fold(word), (mark + concept,))
    return whole, stems


def _tables() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Return whole words and stems of all tables; an abbreviation outranks a concept, a concept a place."""
    whole = {fold(word): tuple(keys.split()) for word, keys in _ABBREVIATIONS.items()}
    stems: dict[str, tuple[str, ...]] = {}
    for table, mark in ((_CONCEPTS, "="), (_PLACES, "@")):
        more_whole, more_stems = _entries(table, mark)
        whole = more_whole | whole
        stems = more_stems | stems
    return MappingProxyType(whole), MappingProxyType(stems)


_WHOLE, _STEMS = _tables()
_LONGEST_STEM: Final = max(map(len, _STEMS))
_PHRASE_WORDS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {tuple(fold(word) for word in phrase.split()): tuple(keys.split()) for phrase, keys in _PHRASES.items()}
)
_PHRASE_STARTS: Final = frozenset(phrase[0] for phrase in _PHRASE_WORDS)
_LONGEST_PHRASE: Final = max(len(phrase) for phrase in _PHRASE_WORDS)


@lru_cache(maxsize=65536)
def concepts_of_word(folded: str) -> tuple[str, ...]:
    """Return the concepts and places a folded word stands for; () if it is none of the table."""
    found = _WHOLE.get(folded)
    if found is not None:
        return found
    for length in range(min(len(folded), _LONGEST_STEM), _SHORTEST_STEM - 1, -1):
        found = _STEMS.get(folded[:length])
        if found is not None and _ENDING.fullmatch(folded, length):
            return found
    return ()


def phrase_at(words: Sequence[str], start: int) -> tuple[int, tuple[str, ...]]:
    """Return length and concepts of the longest phrase that begins at ``words[start]``, all folded; (0, ()) if none."""
    if words[start] not in _PHRASE_STARTS:
        return 0, ()
    for length in range(min(_LONGEST_PHRASE, len(words) - start), 1, -1):
        found = _PHRASE_WORDS.get(tuple(words[start : start + length]))
        if found is not None:
            return length, found
    return 0, ()
