//! The words reviews are made of. Those that judge are in the first four lists and in no other.
//! The adjectives are such as can be negated: "not funny" is a verdict, "not superb" hardly one.

/// Adjectives that praise.
pub(super) const PRAISING: [&str; 48] = [
    "good", "funny", "clever", "moving", "touching", "gripping", "witty", "charming", "fresh",
    "original", "honest", "tender", "lively", "warm", "engaging", "convincing", "enjoyable",
    "memorable", "thoughtful", "subtle", "smart", "sharp", "elegant", "graceful", "imaginative",
    "inventive", "entertaining", "exciting", "thrilling", "satisfying", "rewarding", "powerful",
    "impressive", "delightful", "absorbing", "insightful", "intelligent", "believable", "likeable",
    "stylish", "inspired", "heartfelt", "captivating", "compelling", "amusing", "refreshing",
    "polished", "fascinating",
];

/// Adjectives that find fault.
pub(super) const DAMNING: [&str; 48] = [
    "bad", "dull", "boring", "tedious", "clumsy", "predictable", "shallow", "stale", "flat",
    "lifeless", "bland", "silly", "pointless", "annoying", "tiresome", "forgettable", "weak",
    "sloppy", "messy", "confusing", "incoherent", "implausible", "contrived", "pretentious",
    "awkward", "wooden", "hollow", "sluggish", "lazy", "derivative", "unfunny", "disappointing",
    "dreary", "irritating", "mediocre", "muddled", "crude", "stilted", "monotonous", "preachy",
    "soulless", "charmless", "trite", "dismal", "uninspired", "unconvincing", "tasteless",
    "superficial",
];

/// Verbs that praise, as `it charms` and `they charm` have them.
pub(super) const PLEASING: [[&str; 2]; 20] = [
    ["charms", "charm"], ["delights", "delight"], ["shines", "shine"], ["convinces", "convince"],
    ["works", "work"], ["sparkles", "sparkle"], ["impresses", "impress"],
    ["entertains", "entertain"], ["amuses", "amuse"], ["succeeds", "succeed"],
    ["captivates", "captivate"], ["satisfies", "satisfy"], ["soars", "soar"], ["thrills", "thrill"],
    ["inspires", "inspire"], ["enchants", "enchant"], ["dazzles", "dazzle"],
    ["resonates", "resonate"], ["excels", "excel"], ["fascinates", "fascinate"],
];

/// Verbs that find fault, likewise.
pub(super) const FAILING: [[&str; 2]; 20] = [
    ["bores", "bore"], ["drags", "drag"], ["disappoints", "disappoint"], ["annoys", "annoy"],
    ["stumbles", "stumble"], ["fails", "fail"], ["irritates", "irritate"], ["sags", "sag"],
    ["falters", "falter"], ["grates", "grate"], ["plods", "plod"], ["misfires", "misfire"],
    ["flounders", "flounder"], ["collapses", "collapse"], ["frustrates", "frustrate"],
    ["limps", "limp"], ["flops", "flop"], ["rambles", "ramble"], ["embarrasses", "embarrass"],
    ["tires", "tire"],
];

/// Parts of a film of which there is one.
pub(super) const PARTS: [&str; 36] = [
    "plot", "story", "acting", "script", "dialogue", "direction", "pacing", "soundtrack", "score",
    "ending", "opening", "photography", "editing", "cast", "humor", "romance", "premise",
    "lead actor", "hero", "villain", "heroine", "action", "atmosphere", "setting", "lighting",
    "cinematography", "narration", "finale", "first act", "second half", "mystery", "family drama",
    "love story", "voice acting", "final twist", "supporting cast",
];

/// Parts of a film of which there are several.
pub(super) const MANY_PARTS: [&str; 14] = [
    "performances", "characters", "jokes", "costumes", "special effects", "songs", "action scenes",
    "sets", "dance scenes", "minor roles", "two leads", "fight scenes", "flashbacks",
    "child actors",
];

/// Kinds of film.
pub(super) const FILMS: [&str; 20] = [
    "film", "movie", "picture", "comedy", "drama", "thriller", "western", "documentary", "sequel",
    "remake", "debut", "horror film", "musical", "adaptation", "biography", "satire", "fable",
    "road movie", "crime story", "cartoon",
];

/// People who make films, none of them real.
pub(super) const NAMES: [&str; 24] = [
    "adler", "barros", "castell", "dorsey", "eklund", "farkas", "galloway", "hartono", "ibarra",
    "jansen", "kessler", "lindqvist", "moreau", "nakata", "okafor", "petrov", "quintero", "rossini",
    "sandoval", "tanaka", "ulrich", "varga", "whitlock", "zielinski",
];

/// How much, in front of an adjective.
pub(super) const DEGREES: [&str; 8] = [
    "really", "truly", "very", "thoroughly", "quite", "remarkably", "simply", "consistently",
];

/// Negations in front of an adjective.
pub(super) const NOT: [&str; 8] = [
    "not", "not", "never", "hardly", "far from", "anything but", "by no means", "not at all",
];

/// Negations in front of a verb in the third person.
pub(super) const NEVER: [&str; 4] = [
    "never", "hardly", "hardly ever", "at no point",
];

/// Remarks that judge nothing, in front.
pub(super) const OPENINGS: [&str; 18] = [
    "to be frank", "at least for me", "in the end", "all in all", "in my opinion",
    "on a rainy sunday evening", "for what it is", "as everybody said", "for the record",
    "to come to the point", "after two hours in the dark", "seen at a festival", "as i remember it",
    "to put it briefly", "whatever others say", "watched a second time", "in its own way",
    "as far as i can tell",
];

/// Remarks that judge nothing, behind.
pub(super) const CLOSINGS: [&str; 12] = [
    "from start to finish", "this time around", "in my opinion", "as a whole", "if you ask me",
    "on the big screen", "right up to the credits", "from the first scene on",
    "in more than one way", "all things considered", "once again", "to my eyes",
];
