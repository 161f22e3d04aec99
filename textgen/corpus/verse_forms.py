"""Names of forms of verse and of tunes, which many poems have as their title."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[^\W\d_]+")
_WESTERN = (
    "canción cancion canzone carol chanson elegy epigram fable fragment gedicht ghazal haiku hymn lied limerick "
    "lullaby ode poem poème prayer psalm rondeau sestina sonett sonetto soneto sonnet song tanka untitled villanelle"
)
_CHINESE = (
    "无题 無題 绝句 絕句 五绝 五絕 七绝 七絕 五律 七律 律诗 律詩 古风 古風 古诗 古詩 杂诗 雜詩 咏怀 詠懷 偶成 即事"
)
_TUNES = (  # of lyrics of the Song dynasty and of songs of the Yuan, each in simplified and traditional characters
    "暗香 八声甘州 八聲甘州 拨不断 撥不斷 卜算子 采桑子 採桑子 长相思 長相思 朝天子 朝中措 沉醉东风 沉醉東風 "
    "钗头凤 釵頭鳳 丑奴儿 醜奴兒 大德歌 捣练子 搗練子 点绛唇 點絳唇 點絳脣 叨叨令 殿前欢 殿前歡 蝶恋花 蝶戀花 "
    "定风波 定風波 多丽 多麗 凤凰台上忆吹箫 鳳凰臺上憶吹簫 风入松 風入松 感皇恩 高阳台 高陽臺 更漏子 桂枝香 "
    "汉宫春 漢宮春 好事近 荷叶杯 荷葉杯 何满子 何滿子 河传 河傳 贺圣朝 賀聖朝 贺新郎 賀新郎 红绣鞋 紅繡鞋 "
    "花犯 浣溪沙 江城子 江神子 减字木兰花 減字木蘭花 酒泉子 解连环 解連環 兰陵王 蘭陵王 浪淘沙 浪淘沙令 "
    "临江仙 臨江仙 柳梢青 六丑 六醜 六州歌头 六州歌頭 落梅风 落梅風 卖花声 賣花聲 满江红 滿江紅 满路花 滿路花 "
    "满庭芳 滿庭芳 梦江南 夢江南 蓦山溪 驀山溪 摸鱼儿 摸魚兒 木兰花 木蘭花 木兰花慢 木蘭花慢 南歌子 南柯子 "
    "南乡子 南鄉子 念奴娇 念奴嬌 女冠子 凭阑人 憑闌人 破阵子 破陣子 菩萨蛮 菩薩蠻 普天乐 普天樂 齐天乐 齊天樂 "
    "千秋岁 千秋歲 沁园春 沁園春 青玉案 清江引 清平乐 清平樂 鹊桥仙 鵲橋仙 鹊踏枝 鵲踏枝 人月圆 人月圓 "
    "如梦令 如夢令 阮郎归 阮郎歸 瑞鹤仙 瑞鶴仙 瑞龙吟 瑞龍吟 塞鸿秋 塞鴻秋 山花子 山坡羊 少年游 少年遊 "
    "生查子 声声慢 聲聲慢 疏影 霜天晓角 霜天曉角 水调歌头 水調歌頭 水龙吟 水龍吟 水仙子 四块玉 四塊玉 "
    "思帝乡 思帝鄉 苏幕遮 蘇幕遮 诉衷情 訴衷情 琐窗寒 瑣窗寒 踏莎行 太常引 摊破浣溪沙 攤破浣溪沙 唐多令 "
    "天净沙 天淨沙 天仙子 调笑令 調笑令 望海潮 望江东 望江東 望江南 梧叶儿 梧葉兒 巫山一段云 巫山一段雲 "
    "乌夜啼 烏夜啼 武陵春 西江月 喜春来 喜春來 喜迁莺 喜遷鶯 相见欢 相見歡 小重山 小桃红 小桃紅 行香子 "
    "雁儿落 雁兒落 眼儿媚 眼兒媚 扬州慢 揚州慢 阳春曲 陽春曲 杨柳枝 楊柳枝 谒金门 謁金門 一丛花 一叢花 "
    "一半儿 一半兒 一剪梅 忆江南 憶江南 忆秦娥 憶秦娥 忆王孙 憶王孫 永遇乐 永遇樂 虞美人 渔歌子 漁歌子 "
    "渔家傲 漁家傲 雨霖铃 雨霖鈴 玉楼春 玉樓春 御街行 鹧鸪天 鷓鴣天 折桂令 竹枝词 竹枝詞 祝英台近 祝英臺近 "
    "醉花阴 醉花陰 醉落魄 醉蓬莱 醉蓬萊 醉太平 昭君怨"
)
_FORMS = frozenset(f"{_WESTERN} {_CHINESE} {_TUNES}".split())


def names_form(title: str) -> bool:
    """Checks whether a title names a form of verse or a tune.

    Args:
        title: The title of a poem, or the name of a speaker in a play.

    Example:
        >>> [names_form(title) for title in ("Sonnet XVIII", "【中吕】山坡羊·潼关怀古", "Hamlet")]
        [True, True, False]
    """
    return not _FORMS.isdisjoint(_WORDS.findall(title.casefold()))
