"""What is true of genes and species: the diseases behind which they stand, and the drugs that they meet."""

from compactbio.demo.facts import table, turned

ASSOCIATED = table("""
    TCF7L2: type 2 diabetes
    KCNJ11: type 2 diabetes
    PPARG: type 2 diabetes
    PTPN22: type 1 diabetes, rheumatoid arthritis
    HLA-DRB1: rheumatoid arthritis, type 1 diabetes, multiple sclerosis
    FTO: obesity
    MC4R: obesity
    LEP: obesity
    LDLR: hypercholesterolemia, coronary artery disease
    PCSK9: hypercholesterolemia
    APOB: hypercholesterolemia
    ABCG2: gout
    SLC2A9: gout
    TSHR: Graves disease
    CTLA4: Graves disease
    COL1A1: osteoporosis
    AGT: hypertension
    ACE: diabetic nephropathy
    KCNH2: long QT syndrome
    KCNQ1: long QT syndrome
    SCN5A: long QT syndrome
    MYH7: hypertrophic cardiomyopathy
    MYBPC3: hypertrophic cardiomyopathy
    TTR: transthyretin amyloidosis
    F5: deep vein thrombosis, pulmonary embolism
    F8: hemophilia A
    BMPR2: pulmonary arterial hypertension
    ABL1: chronic myeloid leukemia
    KIT: gastrointestinal stromal tumor
    PDGFRA: gastrointestinal stromal tumor
    EGFR: non-small cell lung cancer, glioblastoma
    ALK: non-small cell lung cancer, neuroblastoma
    ERBB2: breast cancer, gastric cancer
    KRAS: pancreatic cancer, colorectal cancer, non-small cell lung cancer
    BRAF: melanoma
    PIK3CA: breast cancer, endometrial cancer
    PTEN: endometrial cancer, prostate cancer, glioblastoma
    TSC1: tuberous sclerosis, bladder cancer
    TP53: ovarian cancer, hepatocellular carcinoma
    BRCA1: breast cancer, ovarian cancer
    BRCA2: breast cancer, prostate cancer, pancreatic cancer
    MLH1: colorectal cancer, endometrial cancer
    APC: colorectal cancer
    RB1: retinoblastoma
    CDKN2A: melanoma, pancreatic cancer
    MYCN: neuroblastoma
    VHL: renal cell carcinoma
    IDH1: glioblastoma, acute myeloid leukemia
    CDH1: gastric cancer
    TERT: idiopathic pulmonary fibrosis, melanoma
    AR: prostate cancer
    JAK2: polycythemia vera, myelofibrosis
    MPL: myelofibrosis
    FLT3: acute myeloid leukemia
    NPM1: acute myeloid leukemia
    RARA: acute promyelocytic leukemia
    BCL2: follicular lymphoma
    HBB: sickle cell disease, beta thalassemia
    CFH: age-related macular degeneration
    HLA-B: ankylosing spondylitis, psoriasis
    STAT4: systemic lupus erythematosus, rheumatoid arthritis
    IRF5: systemic lupus erythematosus
    MEFV: familial Mediterranean fever
    NOD2: Crohn disease
    IL23R: Crohn disease, psoriasis, ankylosing spondylitis
    FLG: atopic dermatitis
    ORMDL3: asthma
    ADRB2: asthma
    SERPINA1: chronic obstructive pulmonary disease
    MUC5B: idiopathic pulmonary fibrosis
    CFTR: cystic fibrosis
    ATP7B: Wilson disease
    HFE: hemochromatosis
    PKD1: polycystic kidney disease
    APOL1: chronic kidney disease
    APOE: Alzheimer disease
    APP: Alzheimer disease
    PSEN1: Alzheimer disease
    SNCA: Parkinson disease
    LRRK2: Parkinson disease
    HTT: Huntington disease
    SOD1: amyotrophic lateral sclerosis
    C9orf72: amyotrophic lateral sclerosis
    SMN1: spinal muscular atrophy
    SCN1A: epilepsy
    COMT: schizophrenia
    DRD2: schizophrenia
    BDNF: major depressive disorder
    SLC6A4: major depressive disorder, generalized anxiety disorder
    CACNA1C: bipolar disorder, schizophrenia
    SLC6A3: attention deficit hyperactivity disorder
    OPRM1: alcohol use disorder
    MYOC: glaucoma
    RHO: retinitis pigmentosa
""")
"""Gene -> diseases that its variants or its alterations go with."""

CAUSES = table("""
    Staphylococcus aureus: infective endocarditis
    Streptococcus pneumoniae: community-acquired pneumonia, bacterial meningitis, otitis media
    Enterococcus faecalis: infective endocarditis, urinary tract infection
    Enterococcus faecium: infective endocarditis
    Clostridioides difficile: pseudomembranous colitis
    Escherichia coli: urinary tract infection
    Klebsiella pneumoniae: urinary tract infection
    Pseudomonas aeruginosa: urinary tract infection
    Acinetobacter baumannii: urinary tract infection
    Haemophilus influenzae: otitis media, community-acquired pneumonia
    Neisseria gonorrhoeae: gonorrhea
    Neisseria meningitidis: bacterial meningitis
    Salmonella Typhi: typhoid fever
    Vibrio cholerae: cholera
    Helicobacter pylori: peptic ulcer
    Legionella pneumophila: Legionnaires disease
    Mycoplasma pneumoniae: community-acquired pneumonia
    Borrelia burgdorferi: Lyme disease
    Mycobacterium tuberculosis: tuberculosis
    Mycobacterium leprae: leprosy
    Candida albicans: invasive candidiasis
    Candida auris: invasive candidiasis
    Cryptococcus neoformans: cryptococcal meningitis
    Aspergillus fumigatus: invasive aspergillosis
    Plasmodium falciparum: malaria
    Plasmodium vivax: malaria
    Leishmania donovani: visceral leishmaniasis
    Giardia lamblia: giardiasis
    Entamoeba histolytica: amebiasis
    Schistosoma mansoni: schistosomiasis
    Onchocerca volvulus: onchocerciasis
    Strongyloides stercoralis: strongyloidiasis
    Taenia solium: neurocysticercosis
    Echinococcus granulosus: cystic echinococcosis
    Sarcoptes scabiei: scabies
    influenza A virus: influenza
    severe acute respiratory syndrome coronavirus 2: COVID-19
    human immunodeficiency virus: AIDS
    hepatitis B virus: hepatitis B
    hepatitis C virus: hepatitis C
    varicella-zoster virus: herpes zoster
    herpes simplex virus: herpes simplex encephalitis
    human cytomegalovirus: cytomegalovirus retinitis
    dengue virus: dengue
""")
"""Species -> diseases that it causes."""

ACTIVE_AGAINST = turned("""
    Staphylococcus aureus: vancomycin, daptomycin, linezolid
    Streptococcus pneumoniae: amoxicillin, levofloxacin, ceftriaxone, vancomycin, linezolid, meropenem
    Enterococcus faecalis: amoxicillin, vancomycin, daptomycin, linezolid
    Enterococcus faecium: linezolid, daptomycin
    Clostridioides difficile: vancomycin, metronidazole
    Escherichia coli: ciprofloxacin, levofloxacin, gentamicin, ceftriaxone, meropenem, colistin
    Klebsiella pneumoniae: ciprofloxacin, gentamicin, ceftriaxone, meropenem, colistin
    Pseudomonas aeruginosa: ciprofloxacin, gentamicin, meropenem, colistin
    Acinetobacter baumannii: meropenem, colistin
    Haemophilus influenzae: ceftriaxone, azithromycin, levofloxacin
    Neisseria gonorrhoeae: ceftriaxone, azithromycin
    Neisseria meningitidis: ceftriaxone, meropenem, rifampin
    Salmonella Typhi: ciprofloxacin, azithromycin, ceftriaxone
    Vibrio cholerae: doxycycline, azithromycin
    Helicobacter pylori: clarithromycin, amoxicillin, metronidazole
    Legionella pneumophila: azithromycin, levofloxacin
    Mycoplasma pneumoniae: azithromycin, doxycycline, clarithromycin
    Borrelia burgdorferi: doxycycline, amoxicillin, ceftriaxone
    Mycobacterium tuberculosis: rifampin, isoniazid, bedaquiline, linezolid
    Mycobacterium leprae: rifampin
    Candida albicans: fluconazole, caspofungin, voriconazole, amphotericin B
    Candida auris: caspofungin, amphotericin B
    Cryptococcus neoformans: fluconazole, amphotericin B
    Aspergillus fumigatus: voriconazole, amphotericin B, caspofungin
    Plasmodium falciparum: artesunate
    Plasmodium vivax: chloroquine, primaquine, artesunate
    Leishmania donovani: amphotericin B
    Giardia lamblia: metronidazole, albendazole
    Entamoeba histolytica: metronidazole
    Schistosoma mansoni: praziquantel
    Onchocerca volvulus: ivermectin
    Strongyloides stercoralis: ivermectin, albendazole
    Taenia solium: albendazole, praziquantel
    Echinococcus granulosus: albendazole
    Sarcoptes scabiei: ivermectin
    influenza A virus: oseltamivir
    severe acute respiratory syndrome coronavirus 2: remdesivir
    human immunodeficiency virus: tenofovir, efavirenz, dolutegravir
    hepatitis B virus: tenofovir
    hepatitis C virus: sofosbuvir
    varicella-zoster virus: acyclovir
    herpes simplex virus: acyclovir
    human cytomegalovirus: ganciclovir
""")
"""Drug -> species that it acts against."""

CLEARANCE: dict[str, tuple[str, float]] = {
    "glipizide": ("CYP2C9", 4),
    "glimepiride": ("CYP2C9", 7),
    "pioglitazone": ("CYP2C8", 6),
    "atorvastatin": ("CYP3A4", 14),
    "simvastatin": ("CYP3A4", 3),
    "losartan": ("CYP2C9", 2),
    "amlodipine": ("CYP3A4", 40),
    "verapamil": ("CYP3A4", 6),
    "metoprolol": ("CYP2D6", 4),
    "carvedilol": ("CYP2D6", 8),
    "propranolol": ("CYP2D6", 4),
    "warfarin": ("CYP2C9", 40),
    "apixaban": ("CYP3A4", 12),
    "clopidogrel": ("CYP2C19", 6),
    "ticagrelor": ("CYP3A4", 8),
    "sildenafil": ("CYP3A4", 4),
    "bosentan": ("CYP3A4", 5),
    "imatinib": ("CYP3A4", 18),
    "dasatinib": ("CYP3A4", 4),
    "nilotinib": ("CYP3A4", 17),
    "erlotinib": ("CYP3A4", 36),
    "gefitinib": ("CYP3A4", 48),
    "osimertinib": ("CYP3A4", 48),
    "sunitinib": ("CYP3A4", 50),
    "tamoxifen": ("CYP2D6", 140),
    "palbociclib": ("CYP3A4", 28),
    "olaparib": ("CYP3A4", 13),
    "ibrutinib": ("CYP3A4", 5),
    "venetoclax": ("CYP3A4", 26),
    "ruxolitinib": ("CYP3A4", 3),
    "everolimus": ("CYP3A4", 30),
    "tofacitinib": ("CYP3A4", 3),
    "celecoxib": ("CYP2C9", 11),
    "ibuprofen": ("CYP2C9", 2),
    "naproxen": ("CYP2C9", 14),
    "tacrolimus": ("CYP3A4", 12),
    "cyclosporine": ("CYP3A4", 10),
    "ivacaftor": ("CYP3A4", 12),
    "donepezil": ("CYP2D6", 70),
    "carbamazepine": ("CYP3A4", 16),
    "fluoxetine": ("CYP2D6", 72),
    "sertraline": ("CYP2C19", 26),
    "escitalopram": ("CYP2C19", 30),
    "clozapine": ("CYP1A2", 12),
    "olanzapine": ("CYP1A2", 33),
    "risperidone": ("CYP2D6", 20),
    "haloperidol": ("CYP2D6", 24),
    "clarithromycin": ("CYP3A4", 5),
    "isoniazid": ("NAT2", 2),
    "bedaquiline": ("CYP3A4", 165),
    "voriconazole": ("CYP2C19", 6),
    "primaquine": ("CYP2D6", 6),
    "praziquantel": ("CYP3A4", 2),
    "efavirenz": ("CYP2B6", 48),
    "dolutegravir": ("UGT1A1", 14),
    "omeprazole": ("CYP2C19", 1),
    "pantoprazole": ("CYP2C19", 1),
    "finasteride": ("CYP3A4", 6),
    "tamsulosin": ("CYP3A4", 14),
}
"""Drug -> the gene whose product clears it for the most part, and its half-life in hours."""
