"""What is true of the drugs: what they treat, target and induce, as textbooks have it.

Each table is a `dict[str, tuple[str, ...]]` from a drug to the names that it goes with; see `biology` for the rest.
"""

RELATION_TYPES: dict[str, tuple[str, str]] = {
    "treats": ("Chemical", "Disease"),
    "induces": ("Chemical", "Disease"),
    "targets": ("Chemical", "Gene"),
    "metabolized_by": ("Chemical", "Gene"),
    "active_against": ("Chemical", "Species"),
    "associated_with": ("Gene", "Disease"),
    "causes": ("Species", "Disease"),
}
"""Type of a relation -> types of its head and its tail."""


def table(rows: str) -> dict[str, tuple[str, ...]]:
    """One row a line: `name: other, other`."""
    pairs = (row.split(":", 1) for row in rows.strip().splitlines())
    return {name.strip(): tuple(other.strip() for other in others.split(",")) for name, others in pairs}


def turned(rows: str) -> dict[str, tuple[str, ...]]:
    """The same read the other way: in the rows the shared name stands first."""
    turned: dict[str, list[str]] = {}
    for name, others in table(rows).items():
        for other in others:
            turned.setdefault(other, []).append(name)
    return {name: tuple(others) for name, others in turned.items()}


TREATS = table("""
    metformin: type 2 diabetes, polycystic ovary syndrome
    glipizide: type 2 diabetes
    glimepiride: type 2 diabetes
    sitagliptin: type 2 diabetes
    linagliptin: type 2 diabetes
    empagliflozin: type 2 diabetes, heart failure
    dapagliflozin: type 2 diabetes, heart failure, chronic kidney disease
    liraglutide: type 2 diabetes, obesity
    semaglutide: type 2 diabetes, obesity
    pioglitazone: type 2 diabetes
    levothyroxine: hypothyroidism
    methimazole: Graves disease
    propylthiouracil: Graves disease
    allopurinol: gout
    febuxostat: gout
    alendronate: osteoporosis
    zoledronic acid: osteoporosis, multiple myeloma
    denosumab: osteoporosis
    atorvastatin: hypercholesterolemia, coronary artery disease
    simvastatin: hypercholesterolemia, coronary artery disease
    rosuvastatin: hypercholesterolemia, coronary artery disease
    ezetimibe: hypercholesterolemia
    evolocumab: hypercholesterolemia
    lisinopril: hypertension, heart failure
    enalapril: hypertension, heart failure
    ramipril: hypertension, heart failure
    losartan: hypertension, diabetic nephropathy
    valsartan: hypertension, heart failure
    amlodipine: hypertension, coronary artery disease
    verapamil: supraventricular tachycardia, hypertension
    metoprolol: hypertension, heart failure, supraventricular tachycardia
    carvedilol: heart failure
    propranolol: hypertension, migraine
    spironolactone: heart failure, hypertension
    hydrochlorothiazide: hypertension
    furosemide: heart failure
    digoxin: heart failure, atrial fibrillation
    amiodarone: atrial fibrillation
    warfarin: atrial fibrillation, deep vein thrombosis, pulmonary embolism
    apixaban: atrial fibrillation, deep vein thrombosis, pulmonary embolism
    rivaroxaban: atrial fibrillation, deep vein thrombosis, pulmonary embolism
    dabigatran: atrial fibrillation, deep vein thrombosis
    clopidogrel: myocardial infarction, ischemic stroke
    ticagrelor: myocardial infarction
    aspirin: myocardial infarction, ischemic stroke
    alteplase: ischemic stroke, pulmonary embolism
    sildenafil: pulmonary arterial hypertension, erectile dysfunction
    bosentan: pulmonary arterial hypertension
    imatinib: chronic myeloid leukemia, gastrointestinal stromal tumor
    dasatinib: chronic myeloid leukemia
    nilotinib: chronic myeloid leukemia
    erlotinib: non-small cell lung cancer, pancreatic cancer
    gefitinib: non-small cell lung cancer
    osimertinib: non-small cell lung cancer
    crizotinib: non-small cell lung cancer
    lapatinib: breast cancer
    sunitinib: renal cell carcinoma, gastrointestinal stromal tumor
    sorafenib: hepatocellular carcinoma, renal cell carcinoma
    vemurafenib: melanoma
    trametinib: melanoma
    trastuzumab: breast cancer, gastric cancer
    bevacizumab: colorectal cancer, ovarian cancer, glioblastoma
    cetuximab: colorectal cancer
    rituximab: follicular lymphoma, diffuse large B-cell lymphoma, chronic lymphocytic leukemia
    pembrolizumab: melanoma, non-small cell lung cancer, bladder cancer, endometrial cancer
    nivolumab: melanoma, renal cell carcinoma, non-small cell lung cancer
    ipilimumab: melanoma
    tamoxifen: breast cancer
    letrozole: breast cancer
    anastrozole: breast cancer
    palbociclib: breast cancer
    olaparib: ovarian cancer, breast cancer
    bortezomib: multiple myeloma
    lenalidomide: multiple myeloma, myelodysplastic syndrome
    ibrutinib: chronic lymphocytic leukemia
    venetoclax: chronic lymphocytic leukemia, acute myeloid leukemia
    ruxolitinib: myelofibrosis, polycythemia vera
    cisplatin: bladder cancer, ovarian cancer, non-small cell lung cancer
    oxaliplatin: colorectal cancer, gastric cancer
    paclitaxel: breast cancer, ovarian cancer, endometrial cancer
    docetaxel: prostate cancer, breast cancer, gastric cancer
    doxorubicin: diffuse large B-cell lymphoma, breast cancer, neuroblastoma
    fluorouracil: colorectal cancer, gastric cancer
    gemcitabine: pancreatic cancer, bladder cancer
    methotrexate: rheumatoid arthritis, psoriasis, acute lymphoblastic leukemia
    temozolomide: glioblastoma
    cyclophosphamide: lupus nephritis, diffuse large B-cell lymphoma, neuroblastoma
    irinotecan: colorectal cancer
    enzalutamide: prostate cancer
    abiraterone: prostate cancer
    everolimus: renal cell carcinoma, tuberous sclerosis
    tretinoin: acute promyelocytic leukemia
    adalimumab: rheumatoid arthritis, Crohn disease, psoriasis
    infliximab: Crohn disease, ulcerative colitis, ankylosing spondylitis
    etanercept: rheumatoid arthritis, ankylosing spondylitis
    tocilizumab: rheumatoid arthritis, giant cell arteritis
    tofacitinib: rheumatoid arthritis, ulcerative colitis
    secukinumab: psoriasis, ankylosing spondylitis
    ustekinumab: psoriasis, Crohn disease
    hydroxychloroquine: systemic lupus erythematosus, rheumatoid arthritis
    prednisone: giant cell arteritis, systemic lupus erythematosus, immune thrombocytopenia
    dexamethasone: multiple myeloma, COVID-19, acute lymphoblastic leukemia
    colchicine: gout, familial Mediterranean fever
    naproxen: osteoarthritis, gout
    ibuprofen: osteoarthritis
    celecoxib: osteoarthritis, ankylosing spondylitis
    azathioprine: Crohn disease, ulcerative colitis, systemic lupus erythematosus
    tacrolimus: lupus nephritis
    cyclosporine: psoriasis, aplastic anemia
    dupilumab: atopic dermatitis, asthma
    mepolizumab: asthma
    albuterol: asthma, chronic obstructive pulmonary disease
    tiotropium: chronic obstructive pulmonary disease
    budesonide: asthma, chronic obstructive pulmonary disease
    montelukast: asthma
    nintedanib: idiopathic pulmonary fibrosis
    ivacaftor: cystic fibrosis
    levodopa: Parkinson disease
    pramipexole: Parkinson disease, restless legs syndrome
    donepezil: Alzheimer disease
    memantine: Alzheimer disease
    carbamazepine: epilepsy, trigeminal neuralgia
    lamotrigine: epilepsy, bipolar disorder
    levetiracetam: epilepsy
    valproate: epilepsy, bipolar disorder, migraine
    sumatriptan: migraine
    erenumab: migraine
    fluoxetine: major depressive disorder
    sertraline: major depressive disorder
    escitalopram: major depressive disorder, generalized anxiety disorder
    lithium: bipolar disorder
    clozapine: schizophrenia
    olanzapine: schizophrenia, bipolar disorder
    risperidone: schizophrenia, bipolar disorder
    haloperidol: schizophrenia
    methylphenidate: attention deficit hyperactivity disorder
    naltrexone: alcohol use disorder
    natalizumab: multiple sclerosis
    fingolimod: multiple sclerosis
    nusinersen: spinal muscular atrophy
    tafamidis: transthyretin amyloidosis
    amoxicillin: community-acquired pneumonia, otitis media, peptic ulcer
    vancomycin: pseudomembranous colitis, infective endocarditis
    daptomycin: infective endocarditis
    linezolid: community-acquired pneumonia, tuberculosis
    ciprofloxacin: urinary tract infection, typhoid fever
    levofloxacin: community-acquired pneumonia, Legionnaires disease, urinary tract infection
    ceftriaxone: gonorrhea, bacterial meningitis, typhoid fever
    meropenem: bacterial meningitis, urinary tract infection
    colistin: urinary tract infection
    gentamicin: urinary tract infection, infective endocarditis
    azithromycin: typhoid fever, Legionnaires disease, community-acquired pneumonia, cholera
    clarithromycin: peptic ulcer, community-acquired pneumonia
    doxycycline: Lyme disease, cholera
    metronidazole: amebiasis, giardiasis, pseudomembranous colitis, peptic ulcer
    rifampin: tuberculosis, leprosy
    isoniazid: tuberculosis
    bedaquiline: tuberculosis
    fluconazole: cryptococcal meningitis, invasive candidiasis
    voriconazole: invasive aspergillosis
    amphotericin B: cryptococcal meningitis, visceral leishmaniasis, invasive aspergillosis
    caspofungin: invasive candidiasis
    artesunate: malaria
    chloroquine: malaria
    primaquine: malaria
    ivermectin: onchocerciasis, strongyloidiasis, scabies
    praziquantel: schistosomiasis, neurocysticercosis
    albendazole: neurocysticercosis, cystic echinococcosis
    oseltamivir: influenza
    acyclovir: herpes zoster, herpes simplex encephalitis
    ganciclovir: cytomegalovirus retinitis
    tenofovir: AIDS, hepatitis B
    efavirenz: AIDS
    dolutegravir: AIDS
    sofosbuvir: hepatitis C
    remdesivir: COVID-19
    omeprazole: gastroesophageal reflux disease, peptic ulcer
    pantoprazole: gastroesophageal reflux disease, peptic ulcer
    mesalamine: ulcerative colitis
    eculizumab: paroxysmal nocturnal hemoglobinuria
    hydroxyurea: sickle cell disease, polycythemia vera
    deferasirox: beta thalassemia
    eltrombopag: immune thrombocytopenia, aplastic anemia
    emicizumab: hemophilia A
    latanoprost: glaucoma
    ranibizumab: age-related macular degeneration, macular edema
    finasteride: benign prostatic hyperplasia
    tamsulosin: benign prostatic hyperplasia
""")
"""Drug -> diseases that it is given for."""

TARGETS = turned("""
    PRKAA1: metformin
    ABCC8: glipizide, glimepiride
    DPP4: sitagliptin, linagliptin
    SLC5A2: empagliflozin, dapagliflozin
    GLP1R: liraglutide, semaglutide
    PPARG: pioglitazone, mesalamine
    THRB: levothyroxine
    TPO: methimazole, propylthiouracil
    XDH: allopurinol, febuxostat
    FDPS: alendronate, zoledronic acid
    TNFSF11: denosumab
    HMGCR: atorvastatin, simvastatin, rosuvastatin
    NPC1L1: ezetimibe
    PCSK9: evolocumab
    ACE: lisinopril, enalapril, ramipril
    AGTR1: losartan, valsartan
    CACNA1C: amlodipine, verapamil
    ADRB1: metoprolol, carvedilol, propranolol
    ADRB2: albuterol, propranolol, carvedilol
    NR3C2: spironolactone
    SLC12A3: hydrochlorothiazide
    SLC12A1: furosemide
    ATP1A1: digoxin
    KCNH2: amiodarone
    VKORC1: warfarin
    F10: apixaban, rivaroxaban
    F2: dabigatran
    P2RY12: clopidogrel, ticagrelor
    PTGS1: aspirin, ibuprofen, naproxen
    PTGS2: celecoxib, ibuprofen, naproxen
    PDE5A: sildenafil
    EDNRA: bosentan
    ABL1: imatinib, dasatinib, nilotinib
    KIT: imatinib, sunitinib
    PDGFRA: imatinib, sunitinib
    EGFR: erlotinib, gefitinib, osimertinib, cetuximab, lapatinib
    ALK: crizotinib
    ERBB2: lapatinib, trastuzumab
    KDR: sunitinib, sorafenib, nintedanib
    RAF1: sorafenib
    BRAF: vemurafenib
    MAP2K1: trametinib
    VEGFA: bevacizumab, ranibizumab
    MS4A1: rituximab
    PDCD1: pembrolizumab, nivolumab
    CTLA4: ipilimumab
    ESR1: tamoxifen
    CYP19A1: letrozole, anastrozole
    CDK4: palbociclib
    PARP1: olaparib
    PSMB5: bortezomib
    CRBN: lenalidomide
    BTK: ibrutinib
    BCL2: venetoclax
    JAK1: tofacitinib, ruxolitinib
    JAK2: ruxolitinib
    TUBB: paclitaxel, docetaxel, colchicine
    TOP2A: doxorubicin
    TOP1: irinotecan
    TYMS: fluorouracil
    RRM1: gemcitabine
    RRM2: hydroxyurea
    DHFR: methotrexate
    AR: enzalutamide
    CYP17A1: abiraterone
    MTOR: everolimus
    RARA: tretinoin
    TNF: adalimumab, infliximab, etanercept
    IL6R: tocilizumab
    IL17A: secukinumab
    IL12B: ustekinumab
    NR3C1: prednisone, dexamethasone, budesonide
    FKBP1A: tacrolimus
    PPIA: cyclosporine
    IL4R: dupilumab
    IL5: mepolizumab
    CHRM3: tiotropium
    CYSLTR1: montelukast
    CFTR: ivacaftor
    DRD2: pramipexole, olanzapine, risperidone, haloperidol, clozapine
    HTR2A: clozapine, olanzapine, risperidone
    ACHE: donepezil
    GRIN1: memantine
    SCN1A: carbamazepine, lamotrigine
    SV2A: levetiracetam
    HTR1D: sumatriptan
    CALCRL: erenumab
    SLC6A4: fluoxetine, sertraline, escitalopram
    SLC6A3: methylphenidate
    GSK3B: lithium
    OPRM1: naltrexone
    ITGA4: natalizumab
    S1PR1: fingolimod
    SMN2: nusinersen
    TTR: tafamidis
    ATP4A: omeprazole, pantoprazole
    C5: eculizumab
    MPL: eltrombopag
    PTGFR: latanoprost
    SRD5A2: finasteride
    ADRA1A: tamsulosin
""")
"""Drug -> genes whose product it acts on."""

INDUCES = turned("""
    lactic acidosis: metformin, linezolid
    hypoglycemia: glipizide, glimepiride
    acute pancreatitis: sitagliptin, linagliptin, liraglutide, azathioprine, valproate
    diabetic ketoacidosis: empagliflozin, dapagliflozin
    heart failure: pioglitazone
    agranulocytosis: methimazole, propylthiouracil, clozapine
    Stevens-Johnson syndrome: allopurinol, carbamazepine, lamotrigine
    osteonecrosis of the jaw: alendronate, zoledronic acid, denosumab
    rhabdomyolysis: atorvastatin, simvastatin, rosuvastatin, daptomycin
    angioedema: lisinopril, enalapril, ramipril
    hyperkalemia: losartan, valsartan, spironolactone
    bradycardia: metoprolol, carvedilol, propranolol, verapamil, donepezil, fingolimod
    hyponatremia: hydrochlorothiazide, carbamazepine, fluoxetine, sertraline, escitalopram
    hypokalemia: furosemide, abiraterone
    hypothyroidism: amiodarone, sunitinib, pembrolizumab, lithium
    intracranial hemorrhage: warfarin, alteplase
    gastrointestinal bleeding: apixaban, rivaroxaban, dabigatran, clopidogrel, aspirin
    peptic ulcer: naproxen, ibuprofen
    drug-induced liver injury: bosentan, isoniazid, fluconazole, amoxicillin
    pleural effusion: dasatinib
    long QT syndrome: nilotinib, haloperidol, azithromycin, bedaquiline, chloroquine
    interstitial lung disease: erlotinib, gefitinib, osimertinib, everolimus, methotrexate
    hypertension: sorafenib, bevacizumab
    cardiomyopathy: trastuzumab, doxorubicin, trametinib
    progressive multifocal leukoencephalopathy: rituximab, natalizumab
    colitis: ipilimumab, nivolumab
    serotonin syndrome: fluoxetine, escitalopram
    myocarditis: nivolumab
    endometrial cancer: tamoxifen
    osteoporosis: letrozole, anastrozole, prednisone
    neutropenia: palbociclib, docetaxel, irinotecan, ganciclovir, gemcitabine
    myelodysplastic syndrome: olaparib
    peripheral neuropathy: bortezomib, paclitaxel, oxaliplatin, metronidazole
    deep vein thrombosis: lenalidomide
    atrial fibrillation: ibrutinib
    tumor lysis syndrome: venetoclax
    acute kidney injury: cisplatin, vancomycin, colistin, gentamicin, tacrolimus, amphotericin B, acyclovir
    hemorrhagic cystitis: cyclophosphamide
    tuberculosis: adalimumab, infliximab
    herpes zoster: tofacitinib
    myocardial infarction: celecoxib
    retinopathy: hydroxychloroquine
    conjunctivitis: dupilumab
    depression: levetiracetam, efavirenz
    obesity: olanzapine
    hyperprolactinemia: risperidone
    tardive dyskinesia: haloperidol
    thrombocytopenia: linezolid, temozolomide
    tendinopathy: ciprofloxacin, levofloxacin
    hemolytic anemia: primaquine
    erectile dysfunction: finasteride
""")
"""Drug -> diseases that are known adverse effects of it."""
